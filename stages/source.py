"""Convert the rows of a data set to one of TRL's types; unreadable rows go to a quarantine file.

python -m stages.source ultrachat data/raw data/source/ultrachat.jsonl data/source/ultrachat.quarantine.jsonl \
    metrics/source/ultrachat.json

Every row records its origin: `source` holds the name of this entry, and the file and row in the data set.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from ladder.data.atomic_write import scratch, whole
from ladder.data.columns import Unread
from ladder.data.dataset_files import Files, data_files, of_rows
from ladder.data.formats import COLUMNS, Format, read
from ladder.data.jsonl import Kind, Row, write_json
from ladder.data.oasst_trees import planted
from ladder.data.readers import Record, beginning, records
from ladder.data.turns import SCORES, scores
from ladder.pipeline.errors import InvalidRow
from ladder.pipeline.stage import Config, UserError, run
from ladder.verifiers.constraints import result

NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""NUL as JSON escapes it. After another backslash it is text about the escape, not a NUL."""

NO_OBJECT = {"not JSON", "not an object"}
"""Reasons for a row that is not a JSON object, whatever its intended format."""


class Params(Config):
    source: str
    """`hub:org/name@COMMIT[/file]`, `wheel:NAME==VERSION/member`, or under data/raw (a DVC import too) a file, a
    folder, or a pattern of files: `mine/*.jsonl`."""
    sha256: str | None = None
    """sha256 of the source, when it is a single file; required for a wheel."""
    config: str | None = None
    """Subset of the repository, when it has several."""
    split: str | None = None
    """Split of the repository, from its card or its file names: `train_sft`. Null when there is only one."""
    rows: Kind = "messages"
    """Type of the rows to write.

    messages    conversations
    completion  the last answer, with everything before it as the prompt
    preference  chosen and rejected answers
    unpaired    answers labeled good or bad, for KTO
    prompt      prompts for a rung to answer; the data set's own answers are left out
    """
    format: Format | None = None
    """Format of every row; other rows go to quarantine. Null detects each row's format by its columns. See
    ladder/data/formats.py."""
    columns: dict[str, str] = {}
    """Column mapping, ours to theirs: `{prompt: question, completion: answer}`. A name that no format reads is kept as
    an extra column: `{level: difficulty}`. For pairs, `score_chosen` and `score_rejected` are always kept."""
    ignore: list[str] = []
    """Columns, and keys of messages, to leave out unread. Any other unknown column that may change the training puts
    its row into quarantine, unless `columns` names it. See docs/data-formats.md."""
    rendered: Literal["refuse", "unwrap"] = "refuse"
    """Text that was already rendered with a chat template: `refuse` quarantines its row, `unwrap` converts it back to
    messages."""
    reference: str | None = None
    """Column with the reference answer: a number, alone or behind `####` as in GSM8K. Every row gets the check that an
    answer ends in `#### ` and this number, for filters and rewards."""
    instruction: str | None = None
    """Text that is added to the end of every prompt, after an empty line: `End with the result as "#### 42".`"""
    first: int | None = Field(default=None, ge=1)
    """Number of rows to read from the start; later files are not fetched. Rows that are single messages of a tree are
    first assembled from all files; then the first trees are read."""
    max_broken: float = Field(default=0.01, ge=0, le=1)
    """Maximum share of rows in quarantine, 0 to 1; above it, the stage fails."""
    license: str
    """License under which the data set was published, for the data card."""

    @field_validator("columns")
    @classmethod
    def own_columns(cls, columns: dict[str, str]) -> dict[str, str]:
        """Refuse the names of columns that this stage writes."""
        if taken := {"id", "source"} & set(columns):
            raise ValueError(
                f"{', '.join(sorted(taken))}: expected another name, because this stage writes that column"
            )
        return columns

    @model_validator(mode="after")
    def has_prompts(self) -> "Params":
        """Refuse an instruction for rows without a prompt of their own."""
        if self.instruction is not None and self.rows == "messages":
            raise ValueError("instruction: expected rows with a prompt, as of `rows: completion`, got `rows: messages`")
        return self

    @model_validator(mode="after")
    def read_or_ignored(self) -> "Params":
        """Refuse a column that is both read and ignored."""
        if both := sorted({*self.columns, *self.columns.values()} & set(self.ignore)):
            raise ValueError(f"{', '.join(both)}: expected a column in columns or in ignore, got it in both")
        return self


def renamed(row: Row, columns: dict[str, str]) -> tuple[Row, Row]:
    """Rename the columns; return (the row, the extra columns to keep).

    Errors: InvalidRow naming a column that is missing.
    """
    if missing := next((theirs for theirs in columns.values() if theirs not in row), None):
        raise InvalidRow(f"no column: {missing!r}; the row has {', '.join(sorted(map(str, row)))}")
    ours = {name: row[theirs] for name, theirs in columns.items()}
    left = {name: value for name, value in row.items() if name not in columns.values()}
    return {**left, **ours}, {name: value for name, value in ours.items() if name not in COLUMNS}


def scored(row: Row) -> Row:
    """Return the scores of a pair when both answers have one. Errors: InvalidRow for a score that is not a number."""
    try:
        return {name: row[name] for name in SCORES} if scores(row) else {}
    except ValueError as error:
        raise InvalidRow(f"not a score: {error}") from None


def checks(row: Row, params: Params) -> Row:
    """Return the column `checks` if the source has references. Errors: InvalidRow for one that is not a number."""
    if params.reference is None:
        return {}
    if params.reference not in row:
        raise InvalidRow(f"no column: {params.reference!r}; the row has {', '.join(sorted(map(str, row)))}")
    value = str(row[params.reference]).rpartition("####")[2].strip()
    if result(f"#### {value}") is None:
        raise InvalidRow(f"reference: expected a number, got {value[:40]!r}")
    return {"checks": [{"kind": "answer", "value": value}]}


def instructed(row: Row, instruction: str | None) -> Row:
    """Add the instruction to the last message of the prompt."""
    if instruction is None:
        return row
    *before, last = row["prompt"]
    return {**row, "prompt": [*before, {**last, "content": f"{last['content']}\n\n{instruction}"}]}


def encoded(row: Row) -> bytes:
    """Encode a row as a line of JSON Lines.

    Errors: InvalidRow for a text with a NUL or half a surrogate pair, and for a value that JSON does not have.
    """
    try:
        line = json.dumps(row, ensure_ascii=False, allow_nan=False)
        encoded = line.encode() + b"\n"
    except UnicodeEncodeError:
        raise InvalidRow("not Unicode: an unpaired surrogate in a text") from None
    except (TypeError, ValueError) as error:
        raise InvalidRow(f"no JSON value: {error}") from None
    if "\\u0000" in line and NUL.search(line):
        raise InvalidRow("NUL character: in a text")
    return encoded


def mapped(record: Record, number: int, place: str, name: str, params: Params) -> tuple[Format, bytes]:
    """Convert a record; return (format, encoded lines). Errors: InvalidRow with the reason."""
    if record.row is None:
        raise InvalidRow(record.fault)
    references = checks(record.row, params)
    row, beside = renamed(record.row, params.columns)
    beside |= references
    content = {name: value for name, value in row.items() if name not in beside}
    found, rows = read(content, params.format, params.rows, ignore=params.ignore, unwrap=params.rendered == "unwrap")
    if params.rows == "preference":
        beside |= scored(row)
    source = {"name": name, "row": place}
    parts = [f"{name}-{number}"] if len(rows) == 1 else [f"{name}-{number}-{part}" for part in range(1, len(rows) + 1)]
    rows = [instructed(row, params.instruction) for row in rows]
    made = ({"id": part, "source": source, **beside, **row} for part, row in zip(parts, rows, strict=True))
    return found, b"".join(map(encoded, made))


def ordered(counts: Counter[str]) -> dict[str, int]:
    """Sort by descending count, then by name."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def unread_columns(unread: Counter[str], unknown: set[str]) -> str:
    """Describe the unread columns with their counts, and the line of params.yaml that ignores those that may be
    ignored."""
    counted = ", ".join(f"{name}: {count}" for name, count in ordered(unread).items())
    fix = f". If they do not change the training, add `ignore: [{', '.join(sorted(unknown))}]`"
    return f"columns not read ({counted}){fix if unknown else ''}"


def read_files(files: Files) -> Iterator[tuple[str, Record]]:
    """Yield (file, record) for all records of the source."""
    for file, path in files:
        for record in records(path, file):
            yield file, record


def main(params: Params, raw: Path, output: Path, quarantine: Path, metrics: Path) -> None:
    """Convert the data set; write rows to `output`, unreadable ones to `quarantine`, and counts to `metrics`.

    Errors: UserError when there are no rows, none can be read, or too many cannot be read.
    """
    formats: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    unread: Counter[str] = Counter()
    unknown: set[str] = set()
    total = rows = 0
    first = ""
    opening = b""  # the end of the first line: a bracket there means an object or array over several lines
    with scratch(output) as folder, whole(output) as kept:
        files = data_files(params.source, params.sha256, params.config, params.split, raw, folder)
        if files.unread:
            print(f"{params.source}: in no split: {', '.join(files.unread)}", file=sys.stderr, flush=True)
        with whole(quarantine) as broken:
            there = read_files(files)
            for file, record in islice(planted(there) if params.format in (None, "tree") else there, params.first):
                total += 1
                opening = record.raw.strip()[-1:] if total == 1 else opening
                try:
                    found, lines = mapped(record, total, f"{file}:{record.line}", output.stem, params)
                except InvalidRow as misfit:
                    reasons[str(misfit).partition(":")[0]] += 1
                    if isinstance(misfit, Unread):
                        unread.update(misfit.names)
                        unknown.update(misfit.unknown)
                    first = first or f"{file}:{record.line}: {misfit}"
                    fault = {"file": file, "line": record.line, "reason": str(misfit), "begins": beginning(record)}
                    broken.write(json.dumps(fault).encode() + b"\n")
                else:
                    formats[found] += 1
                    rows += lines.count(b"\n")
                    kept.write(lines)
        broken_rows = reasons.total()
        if not total:
            raise UserError(f"{params.source}: no rows")
        if not rows or broken_rows > params.max_broken * total:
            why = f"more than max_broken: {params.max_broken}" if rows else "none is left"
            listed = ", ".join(f"{reason}: {count}" for reason, count in ordered(reasons).items())
            problem = f"{broken_rows} of {total} rows cannot be read, {why} ({listed})"
            if opening in (b"{", b"[") or not rows and reasons.keys() <= NO_OBJECT:
                problem += "; expected one JSON object a line, or a file named .json that is an array of them"
            else:
                problem += f"; first {first}"
            if unread:
                problem += f"; {unread_columns(unread, unknown)}"
            raise UserError(f"{params.source}: {problem}. See {quarantine}.")
    counts = {"rows": rows, "read": total, "quarantined": broken_rows}
    made_by = {"source": params.source, "revision": of_rows(params.source).revision or None, "license": params.license}
    left = {"no_split_holds": files.unread} if files.unread else {}
    columns = {"columns_not_read": ordered(unread)} if unread else {}
    document = {
        **counts,
        "formats": ordered(formats),
        "reasons": ordered(reasons),
        **columns,
        "made_by": made_by,
        **left,
    }
    write_json(metrics, document)


if __name__ == "__main__":
    run(main, named=True)
