"""The benchmarks' questions in the order they are asked: stratified so that every prefix keeps the group proportions.

python -m stages.questions code/questions.txt code/benchmarks data/task data/questions data/questions.cells.json

Answers depend on these files and not on the code that scores them: a change of the scoring never generates again. The
folder has the benchmarks of `report.benchmarks` and no others (ladder/data/cells.py).
"""

from pathlib import Path

from ladder.data.cells import Cells, file_hash, modules_hash
from ladder.data.jsonl import read_rows, write_rows
from ladder.eval.registry import asked, benchmark
from ladder.eval.stratified import order
from ladder.pipeline.stage import Config, run


class Params(Config):
    seed: int = 0
    """Seed of the order, and so of the fixed subset of a benchmark that is not asked in full."""


def write_questions(params: Params, task: Path, output: Path) -> None:
    """Write the questions of the benchmark with the rows `task` in stratified order."""
    questions = asked(benchmark(task.stem), read_rows(task), task)
    write_rows(
        output,
        (
            {"key": question.key, "turns": list(question.turns), "group": question.group}
            for question in order(questions, seed=params.seed)
        ),
    )


def main(
    params: Params, code: Path, benchmark_code: Path, tasks: Path, output: Path, cells_out: Path, *,
    benchmarks: list[str],
) -> None:  # fmt: skip
    """Write the questions of every listed benchmark that is not current, and remove those of others.

    code, benchmark_code: the code list of this stage, and the folder of those of the benchmarks. tasks: folder of the
    published rows. cells_out: records of ladder.data.cells.
    """
    cells = Cells(cells_out, [output])
    for name in benchmarks:
        benchmark(name)  # an unknown name is an error before its files are missing
        task, path = tasks / f"{name}.jsonl", output / f"{name}.jsonl"
        code_hash = modules_hash(code, benchmark_code / f"{name}.txt")
        inputs = {"seed": str(params.seed), "code": code_hash, "task": file_hash(task)}
        if why := cells.outdated(name, inputs, [path]):
            print(f"{name}: writing its questions ({why})", flush=True)
            cells.forget(name)
            write_questions(params, task, path)
            cells.record(name, inputs, [path])
    cells.finish()


if __name__ == "__main__":
    run(main, names={"benchmarks": "report.benchmarks"})
