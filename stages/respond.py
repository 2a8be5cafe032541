"""A rung's answers to a benchmark. Scores are another stage's: scoring anew never generates anew.

python -m stages.respond ifeval data/questions/ifeval.jsonl models/sft/chat models/base \
    data/respond/ifeval/sft/chat.jsonl
"""

from pathlib import Path

from ladder.generation import answer
from ladder.models import load
from ladder.responding import Asking, read_questions, respond
from ladder.rows import write_rows
from ladder.run import run


class Params(Asking):
    """How every rung is asked."""


def main(params: Params, questions: Path, model: Path, base: Path, output: Path) -> None:
    asked, rung = read_questions(questions, params.rows), load(model, base)
    write_rows(
        output,
        respond(
            asked,
            lambda conversations, sampling: answer(rung, conversations, sampling, progress=f"respond {model}"),
            params,
        ),
    )


if __name__ == "__main__":
    run(main, named=True)
