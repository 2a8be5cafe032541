"""A benchmark's score of answers that were made elsewhere: JSON on stdout, as the metric file of a rung has it.

    python -m ladder score ifeval responses.jsonl

Rows say what they answer by `prompt`, a question's text, or by `key`, as ladder/responses.py tells. They stand in a
file of any kind and packing that ladder/reading.py reads. Who judges stands in params.yaml, as for every rung:
benchmark.ifeval.
"""

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import TypeVar

from ladder.benchmarking import Benchmark, Question, Tools
from ladder.catalogue import asked, benchmark
from ladder.grading import Scoring, judge_of
from ladder.reading import kind, records
from ladder.responses import missing, read_answers
from ladder.rows import Row
from ladder.run import PARAMS, Refused, Section, fit, read_params
from ladder.scores import made_by, score_answers, summary

BASE, PUNKT = Path("models/base"), Path("data/punkt")
TYPES = {"sample": int, "turn": int, "tokens": int, "finished": bool}
"""Of a row of answers, where it has them."""
S = TypeVar("S", bound=Section)


def score(arguments: list[str]) -> None:
    """`ladder score`: print the numbers of a file of answers. What was not answered is told on stderr."""
    parser = argparse.ArgumentParser(prog="python -m ladder score", description="Score answers made elsewhere.")
    add_benchmark(parser)
    parser.add_argument(
        "responses",
        type=Path,
        metavar="FILE",
        help="rows of {prompt, response} or {key, response}: .jsonl, .json, .csv, .parquet, or packed: .jsonl.gz",
    )
    options = parser.parse_args(arguments)
    found, questions = read(options.benchmark, options.task)
    print_json(scored(found, questions, read_responses(options.responses), options.responses))


def add_benchmark(parser: argparse.ArgumentParser) -> None:
    """The arguments BENCHMARK and --task."""
    parser.add_argument("benchmark", metavar="BENCHMARK", help="a module of benchmarks/")
    parser.add_argument("--task", type=Path, metavar="FILE", help="its rows; data/task/BENCHMARK.jsonl")


def read(name: str, task: Path | None) -> tuple[Benchmark, list[Question]]:
    """The benchmark and its questions. Errors: Refused, saying what makes the rows where they are not there."""
    found, path = benchmark(name), task or Path(f"data/task/{name}.jsonl")
    if task is None and not path.is_file():
        raise Refused(f"{path}: no such file; `dvc repro task@{name}` makes it, --task names another")
    return found, asked(found, [row for _, row in read_file(path)], path)


def read_file(path: Path) -> list[tuple[str, Row]]:
    """(file:line, row) of all rows. Errors: Refused naming the file, and the line that is no row."""
    found = []
    for record in records(path, str(path)):
        where = f"{path}:{record.line}"
        if record.row is None:
            raise Refused(f"{where}: {record.fault}")
        found.append((where, record.row))
    if not found:
        raise Refused(f"{path}: no rows")
    return found


def read_responses(path: Path) -> list[Row]:
    """Rows for read_answers. What is null is not there, nor what is empty in a csv, but for an answer.

    Errors: Refused naming file and line.
    """
    of_texts, rows = kind(path.name) == ".csv", []
    for where, row in read_file(path):
        row = {name: value for name, value in row.items() if value is not None}
        if of_texts:
            row = _typed({name: text for name, text in row.items() if text or name == "response"})
        for name, expected in TYPES.items():
            if name in row and type(row[name]) is not expected:
                raise Refused(f"{where}: expected {name!r} of type {expected.__name__}, got {row[name]!r}")
        rows.append(row)
    return rows


def _typed(texts: Row) -> Row:
    """A csv's row, its counts read as numbers."""
    row = dict(texts)
    for name in TYPES.keys() & texts.keys():
        with contextlib.suppress(ValueError):
            row[name] = json.loads(texts[name].lower())
    return row


def entry(kind: type[S], stage: str, name: str) -> S:
    """The benchmark's entry in a section of params.yaml. Errors: Refused where it has none."""
    section = read_params().get(stage) or {}
    if name not in section:
        raise Refused(f"{PARAMS}: {stage}: no entry is named {name!r}")
    return fit(kind, section[name], f"{PARAMS}: {stage}.{name}")


def scored(found: Benchmark, questions: list[Question], rows: list[Row], file: Path) -> Row:
    """The metric of these rows. Errors: Refused as read_answers does."""
    params = entry(Scoring, "benchmark", found.name)
    answers, others = read_answers(questions, rows, file)
    if others:
        few = ", ".join(map(str, others[:5])) + (", …" if len(others) > 5 else "")
        print(f"{file}: prompts worded otherwise than the benchmark's, taken as its own: rows {few}", file=sys.stderr)
    if absent := missing(questions, answers):
        few = ", ".join(absent[:5]) + (", …" if len(absent) > 5 else "")
        print(f"{file}: {len(absent)} of {len(questions)} questions have no answer: {few}", file=sys.stderr)
    judge = judge_of(params, BASE)
    scores = score_answers(found, questions, answers, Tools(PUNKT, judge, params.seed))
    made = made_by(found, questions, answers, params, judge) | ({"reworded": len(others)} if others else {})
    return {**summary(found, scores, params), "made_by": made}


def print_json(metric: Row) -> None:
    print(json.dumps(metric, indent=2, ensure_ascii=False))
