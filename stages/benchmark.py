"""Score the rungs' answers to the benchmarks: numbers with confidence intervals, and a verdict per question.

    python -m stages.benchmark code/benchmark.txt code/benchmarks data/task data/punkt data/answer models/base \
        data/benchmark data/benchmark.cells.json metrics/benchmark

One process scores every cell (a rung on a benchmark) of the report's table whose answers, published rows, code or
settings changed (ladder/data/cells.py). A cell has three files: one row per question in
data/benchmark/ifeval/base.jsonl, the summary with intervals and groups in data/benchmark/ifeval/base.json, and at most
five numbers, the headline first, in metrics/benchmark/ifeval/base.json, which git keeps.

If this machine lacks what a benchmark needs (for example a sandbox for programs), its cells are not scored and the
stage succeeds, so the pipeline continues. The summary then names the missing part. Install it and run
`dvc repro --force benchmark`: this scores the cells that lack a score.
"""

import json
from pathlib import Path

from pydantic import Field

from ladder.data.cells import Cells, file_hash, folder_hash, modules_hash, versions_of
from ladder.data.jsonl import Row, column, read_json, read_rows, write_json, write_rows
from ladder.eval.benchmark import Benchmark, Tools
from ladder.eval.judge_config import Judges, Scoring
from ladder.eval.registry import asked, benchmark
from ladder.eval.responses import read_answers
from ladder.eval.scores import headlines, made_by, score_answers, summary, versions
from ladder.models.rung import read_description
from ladder.pipeline.stage import PARAMS, Config, UserError, run


class Entry(Scoring):
    """How the answers are scored; who judges them where the benchmark asks a judge."""


class Params(Config, extra="allow"):
    """An entry for each benchmark. The scored benchmarks and rungs are those of the section `report`."""

    __pydantic_extra__: dict[str, Entry] = Field(init=False)

    @property
    def entries(self) -> dict[str, Entry]:
        return self.__pydantic_extra__


def judged_by(entry: Entry, base: Path) -> dict[str, str]:
    """Return the inputs of a judge in this process: its model, and the libraries that run it."""
    if entry.judge is None or entry.judge.get("endpoint") is not None:
        return {}
    return {"judge": read_description(base).identity, **versions_of("torch", "transformers")}


def score(
    found: Benchmark, entry: Entry, task: Path, punkt: Path, responses: Path, judges: Judges
) -> tuple[list[Row], Row]:
    """Check that the answers belong to the task, and score them. Returns one row per question, and the summary."""
    rows = read_rows(responses)
    questions = asked(found, read_rows(task), task)
    for name, kind in (("tokens", int), ("finished", bool)):
        column(rows, name, kind, responses)
    answers, others = read_answers(questions, rows, responses)
    if others:
        raise UserError(f"{responses}: row {others[0]}: its prompt differs from the prompt of its key in {task}")
    judge = judges.of(entry)
    scores = score_answers(found, questions, answers, Tools(punkt, judge, entry.seed))
    made = {**summary(found, scores, entry), "made_by": made_by(found, questions, answers, entry, judge)}
    return scores, made


def missing(found: Benchmark) -> str:
    """Return what this machine lacks to score the benchmark; empty if nothing."""
    try:
        found.needs()
    except UserError as lacking:
        return str(lacking)
    return ""


def main(
    params: Params, code: Path, benchmark_code: Path, tasks: Path, punkt: Path, answers: Path, base: Path,
    output: Path, cells_out: Path, metrics: Path, *, benchmarks: list[str], rungs: list[str],
) -> None:  # fmt: skip
    """Score every cell of the listed benchmarks and rungs that is not current, and remove all others.

    code, benchmark_code: the code list of this stage, and the folder of those of the benchmarks. tasks, answers:
    folders of the published rows, and of the answers by rung. base: model of a judge without an endpoint. cells_out:
    records of ladder.data.cells.
    Errors: UserError for a benchmark without an entry, and for answers to other questions.
    """
    cells, judges, punkt_hash = Cells(cells_out, [output, metrics]), Judges(base), folder_hash(punkt)
    for name in benchmarks:
        if name not in params.entries:
            raise UserError(f"{PARAMS}: report.benchmarks: expected names with an entry in benchmark, got {name!r}")
        found, entry, task = benchmark(name), params.entries[name], tasks / f"{name}.jsonl"
        shared = {
            "entry": json.dumps(entry.model_dump(mode="json"), sort_keys=True),
            "code": modules_hash(code, benchmark_code / f"{name}.txt"),
            "task": file_hash(task),
            "punkt": punkt_hash,
            **versions(found),
            **judged_by(entry, base),
        }
        for rung in rungs:
            responses = answers / rung / f"{name}.jsonl"
            made_of = {**shared, "answers": file_hash(responses)}
            files = [output / name / f"{rung}.jsonl", output / name / f"{rung}.json", metrics / name / f"{rung}.json"]
            why = cells.outdated(f"{name}/{rung}", made_of, files)
            if not why and "absent" in read_json(files[1]):
                why = "not scored before"
            if not why:
                continue
            lacking = missing(found)
            print(f"{name} {rung}: not scored: {lacking}" if lacking else f"{name} {rung}: scoring ({why})", flush=True)
            rows, made = ([], {"absent": lacking}) if lacking else score(found, entry, task, punkt, responses, judges)
            cells.forget(f"{name}/{rung}")
            write_rows(files[0], rows)
            write_json(files[1], made)
            write_json(files[2], headlines(made))
            cells.record(f"{name}/{rung}", made_of, files)
    cells.finish()


if __name__ == "__main__":
    run(main, names={"benchmarks": "report.benchmarks", "rungs": "rungs.report"})
