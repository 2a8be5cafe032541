"""A rung's answers to a benchmark. Scores are another stage's: scoring anew never generates anew.

python -m stages.respond ifeval data/questions/ifeval.jsonl models/sft/chat models/base \
    data/respond/ifeval/sft/chat.jsonl
"""

from pathlib import Path
from typing import Literal

from ladder import vllm_engine
from ladder.generation import answer
from ladder.models import load
from ladder.responding import Asking, Speak, read_questions, respond
from ladder.rows import write_rows
from ladder.run import run


class Params(Asking):
    """How every rung is asked."""

    engine: Literal["process", "vllm"] = "process"
    """What answers: the ladder's own decoder, or vLLM where it is installed."""


def speaker(params: Params, model: Path, base: Path) -> Speak:
    """The rung, loaded by the engine."""
    progress = f"respond {model}"
    if params.engine == "vllm":
        held = vllm_engine.load(model, base)
        return lambda asked, sampling: vllm_engine.answer(held, asked, sampling, progress=progress)
    rung = load(model, base)
    return lambda asked, sampling: answer(rung, asked, sampling, progress=progress)


def main(params: Params, questions: Path, model: Path, base: Path, output: Path) -> None:
    asked = read_questions(questions, params.rows)
    write_rows(output, respond(asked, speaker(params, model, base), params))


if __name__ == "__main__":
    run(main, named=True)
