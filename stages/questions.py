"""A benchmark's questions in the order they are asked: stratified so that every prefix keeps the group proportions.

python -m stages.questions data/task/ifeval.jsonl data/questions/ifeval.jsonl

Answers depend on this file and not on the code that scores them: a change of the scoring never generates again.
"""

from pathlib import Path

from ladder.data.jsonl import read_rows, write_rows
from ladder.eval.registry import asked, benchmark
from ladder.eval.stratified import order
from ladder.pipeline.stage import Config, run


class Params(Config):
    seed: int = 0
    """Seed of the order, and so of the fixed subset of a benchmark that is not asked in full."""


def main(params: Params, task: Path, output: Path) -> None:
    """Read the benchmark's rows from `task` and write its questions to `output` in stratified order."""
    questions = asked(benchmark(task.stem), read_rows(task), task)
    write_rows(
        output,
        (
            {"key": question.key, "turns": list(question.turns), "group": question.group}
            for question in order(questions, seed=params.seed)
        ),
    )


if __name__ == "__main__":
    run(main)
