"""Command `ladder score`: score answers generated elsewhere; print JSON in the form of a rung's metric file.

    ladder score ifeval responses.jsonl
    ladder score ifeval responses.jsonl --null-is-wrong --skip-foreign

Rows name their question by `prompt`, a question's text, or by `key` (ladder/eval/responses.py). The file may have any
format and compression that ladder/data/readers.py reads. The judge is set in params.yaml, as for every rung:
benchmark.ifeval. Reasoning is stripped before an answer is scored (ladder/verifiers/reasoning.py); docs/scoring.md
describes the file.
"""

import contextlib
import sys
from pathlib import Path
from typing import TypeVar

from ladder.data.jsonl import Row
from ladder.data.readers import kind, records
from ladder.data.strict_json import parse_json
from ladder.eval.benchmark import Benchmark, Question, Tools
from ladder.eval.judge_config import Scoring, judge_of
from ladder.eval.registry import asked, benchmark
from ladder.eval.responses import missing, read_answers
from ladder.eval.scores import made_by, score_answers, summary
from ladder.pipeline.names import did_you_mean
from ladder.pipeline.stage import PARAMS, Config, UserError, fit, read_params
from ladder.verifiers.reasoning import whole_text

BASE, PUNKT = Path("models/base"), Path("data/punkt")
TYPES = {"sample": int, "turn": int, "tokens": int, "finished": bool}
"""Types of the optional columns of a row of answers."""
S = TypeVar("S", bound=Config)


def score(
    name: str, responses: Path, task: Path | None = None, *, null_is_wrong: bool = False, skip_foreign: bool = False
) -> Row:
    """Run `ladder score`: return the scores of a file of answers. Unanswered questions are listed on stderr.

    task: the benchmark's rows, if not data/task/NAME.jsonl. Errors: UserError.
    """
    found, questions = read(name, task)
    rows = read_responses(responses, null_is_wrong=null_is_wrong)
    return scored(found, questions, rows, responses, skip_foreign=skip_foreign)


def read(name: str, task: Path | None) -> tuple[Benchmark, list[Question]]:
    """Load the benchmark and its questions. Errors: UserError; for a missing file it names the fix."""
    found, path = benchmark(name), task or Path(f"data/task/{name}.jsonl")
    if task is None and not path.is_file():
        raise UserError(f"{path}: no such file. `dvc repro task@{name}` makes it; --task names another.")
    return found, asked(found, [row for _, row in read_file(path)], path)


def read_file(path: Path) -> list[tuple[str, Row]]:
    """Read all rows as (file:line, row). Errors: UserError naming the file, and the line that is not a row."""
    found = []
    for record in records(path, str(path)):
        where = f"{path}:{record.line}"
        if record.row is None:
            raise UserError(f"{where}: {record.fault}")
        found.append((where, record.row))
    if not found:
        raise UserError(f"{path}: no rows")
    return found


def read_responses(path: Path, *, null_is_wrong: bool = False) -> list[Row]:
    """Read rows for read_answers. Columns that are null, or empty in a csv, are dropped, except the response.

    A null or empty response beside a column of reasoning counts as reasoning that never ended.
    Errors: UserError naming file and line, for a row without a response, and for a null one unless `null_is_wrong`.
    """
    of_texts, rows = kind(path.name) == ".csv", []
    for where, row in read_file(path):
        if "response" not in row:
            raise UserError(
                f"{where}: no column 'response'; expected the answer under that name, got columns "
                f"{', '.join(row) or 'none'}. Rename the column that holds the answer."
            )
        row = {**row, "response": whole_text(row, "response")}
        if row["response"] is None and not null_is_wrong:
            raise UserError(
                f"{where}: response: expected a text, got null. Remove the row, or score these rows as wrong with "
                "--null-is-wrong."
            )
        if row["response"] is None:
            row["response"] = ""
        row = {name: value for name, value in row.items() if value is not None and value == value}
        if of_texts:
            row = _typed({name: text for name, text in row.items() if text or name == "response"})
        for name, expected in TYPES.items():
            if expected is int and isinstance(row.get(name), float) and row[name].is_integer():
                row[name] = int(row[name])  # pandas writes an integer column with missing values as floats
            if name in row and type(row[name]) is not expected:
                raise UserError(f"{where}: expected {name!r} of type {expected.__name__}, got {row[name]!r}")
        rows.append(row)
    return rows


def _typed(texts: Row) -> Row:
    """Parse the counts of a csv row as numbers."""
    row = dict(texts)
    for name in TYPES.keys() & texts.keys():
        with contextlib.suppress(ValueError):
            row[name] = parse_json(texts[name].lower())
    return row


def entry(kind: type[S], stage: str, name: str) -> S:
    """Read the benchmark's entry in a section of params.yaml. Errors: UserError when there is none."""
    section = read_params().get(stage) or {}
    if name not in section:
        near = did_you_mean(name, section) or f"; expected one of {', '.join(section) or 'none, as there is no entry'}"
        raise UserError(f"{PARAMS}: {stage}: no entry is named {name!r}{near}")
    return fit(kind, section[name], f"{PARAMS}: {stage}.{name}")


def scored(
    found: Benchmark, questions: list[Question], rows: list[Row], file: Path, *, skip_foreign: bool = False
) -> Row:
    """Score the rows; return the metric document. Errors: those of read_answers."""
    params = entry(Scoring, "benchmark", found.name)
    foreign: list[int] | None = [] if skip_foreign else None
    answers, others = read_answers(questions, rows, file, foreign)
    if foreign:
        few = ", ".join(map(str, foreign[:5])) + (", …" if len(foreign) > 5 else "")
        print(f"{file}: {len(foreign)} of {len(rows)} rows answer no question and are skipped: rows {few}",
              file=sys.stderr)  # fmt: skip
    if others:
        few = ", ".join(map(str, others[:5])) + (", …" if len(others) > 5 else "")
        print(f"{file}: prompts worded differently from the benchmark's, matched by key: rows {few}", file=sys.stderr)
    if absent := missing(questions, answers):
        few = ", ".join(absent[:5]) + (", …" if len(absent) > 5 else "")
        print(f"{file}: {len(absent)} of {len(questions)} questions have no answer: {few}", file=sys.stderr)
    judge = judge_of(params, BASE)
    scores = score_answers(found, questions, answers, Tools(PUNKT, judge, params.seed))
    made = made_by(found, questions, answers, params, judge) | ({"reworded": len(others)} if others else {})
    made |= {"foreign": len(foreign)} if foreign else {}
    if cut := made.get("unfinished_reasoning"):
        print(f"{file}: {cut} answers are unfinished reasoning and count as empty", file=sys.stderr)
    return {**summary(found, scores, params), "made_by": made}
