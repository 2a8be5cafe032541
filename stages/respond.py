"""A rung's answers to a benchmark, greedy. Scores are another stage's: scoring anew never generates anew.

python -m stages.respond ifeval data/task/ifeval.jsonl models/sft/chat models/base data/respond/ifeval/sft/chat.jsonl
"""

from pathlib import Path

from ladder.generation import answer
from ladder.models import load
from ladder.rows import column, read_rows, write_rows
from ladder.run import Section, run
from ladder.sampling import Sampling
from ladder.subset import choose


class Params(Section):
    rows: int
    """Size of the fixed stratified part of the benchmark that is asked; 0 asks all of it."""
    max_new_tokens: int
    """An answer that has not ended by then is cut."""


def main(params: Params, task: Path, model: Path, base: Path, output: Path) -> None:
    rows = read_rows(task)
    column(rows, "prompt", str, task)
    asked = choose(rows, params.rows)
    conversations = [[{"role": "user", "content": row["prompt"]}] for row in asked]
    answers = answer(
        load(model, base), conversations, Sampling(max_new_tokens=params.max_new_tokens), progress=f"respond {model}"
    )
    write_rows(
        output,
        (
            {
                "key": row["key"],
                "prompt": row["prompt"],
                "response": said.text,
                "tokens": said.tokens,
                "finished": said.finished,
            }
            for row, said in zip(asked, answers, strict=True)
        ),
    )


if __name__ == "__main__":
    run(main, named=True)
