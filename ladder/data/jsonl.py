"""Read and write JSON Lines and JSON files. Writes are atomic."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from ladder.data.atomic_write import whole
from ladder.data.strict_json import HalfPair, encode, half_pair, parse_json
from ladder.pipeline.errors import UserError
from ladder.pipeline.files import read_bytes, read_text

Row = dict[str, Any]
Kind = Literal["messages", "completion", "preference", "unpaired", "prompt"]
"""TRL's row types.

`messages`; `prompt, completion`; `prompt, chosen, rejected` (preference); `prompt, completion, label` (unpaired
preference); or `prompt` alone, to be answered.
"""


def read_rows(path: Path) -> list[Row]:
    """Read JSON Lines (UTF-8, one object per line). Errors: UserError with file and line."""
    rows = []
    for number, line in enumerate(read_bytes(path).splitlines(), start=1):
        if line.strip():
            rows.append(parse_row(line, f"{path}:{number}"))
    if not rows:
        raise UserError(f"{path}: no rows")
    return rows


def parse_row(line: bytes, where: str) -> Row:
    """Parse one line of JSON Lines. Errors: UserError that begins with `where`."""
    try:
        row = parse_json(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8 at byte {error.start} of the line") from None
    except HalfPair as error:
        raise UserError(f"{where}: {error}") from None
    except ValueError as error:
        raise UserError(f"{where}: not JSON: {error}") from None
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected a JSON object, got {type(row).__name__}")
    return row


def read_json(path: Path) -> Row:
    """Read a file with one JSON object. Errors: UserError naming the file."""
    try:
        value = parse_json(read_text(path))
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def of_split(rows: list[Row], split: str | None, data: Path) -> list[Row]:
    """Return the rows of one split; None selects all rows. Errors: UserError when there are none."""
    chosen = [row for row in rows if split in (None, row.get("split"))]
    if not chosen:
        splits = sorted({str(row["split"]) for row in rows if row.get("split") is not None})
        expected = f"expected one of {', '.join(splits)}" if splits else "the rows have no split. Set split: null."
        raise UserError(f"{data}: no row of split {split!r}; {expected}")
    return chosen


def encoded(row: Row, where: str) -> bytes:
    """Encode a row as a line of JSON Lines.

    Errors: UserError that begins with `where`, for text that UTF-8 cannot encode.
    """
    try:
        return f"{encode(row)}\n".encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{where}: {half_pair(error)}") from None


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write JSON Lines. Keys keep their order, so that equal rows produce equal bytes.

    Errors: UserError naming the row with text that UTF-8 cannot encode.
    """
    lines = (encoded(row, f"{path}: row {number}") for number, row in enumerate(rows, start=1))
    write_text(path, b"".join(lines).decode())


def write_json(path: Path, value: Any) -> None:
    """Write one JSON document, indented for reading and diffs. Errors: ValueError for NaN or infinity."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a text file atomically (ladder/data/atomic_write.py).

    durable: synchronize with the disk before the file is published.
    """
    with whole(path, durable=durable) as file:
        file.write(text.encode())


def column(rows: Iterable[Row], name: str, kind: type, path: Path) -> list[Any]:
    """Return the values of one column. Errors: UserError naming the first row without it or with another type."""
    values = []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get(name), kind):
            raise UserError(f"{path}: row {number}: expected {name!r} of type {kind.__name__}, got {row.get(name)!r}")
        values.append(row[name])
    return values
