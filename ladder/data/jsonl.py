"""Rows on disk: JSON Lines in, JSON Lines out. What is written is whole or not there."""

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from ladder.data.atomic_write import whole
from ladder.pipeline.stage import UserError

Row = dict[str, Any]
Kind = Literal["messages", "completion", "preference", "unpaired", "prompt"]
"""TRL's row types: `messages`, `prompt, completion`, `prompt, chosen, rejected`, `prompt, completion, label` (unpaired
preferences), or `prompt` alone, to be answered."""
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class HalfPair(ValueError):
    """A text with half a surrogate pair, which JSON can escape and UTF-8 cannot hold."""


def read_rows(path: Path) -> list[Row]:
    """Read JSON Lines (UTF-8, one object a line). Errors: UserError with file and line."""
    rows = []
    for number, line in enumerate(read_bytes(path).splitlines(), start=1):
        if line.strip():
            rows.append(parse_row(line, f"{path}:{number}"))
    if not rows:
        raise UserError(f"{path}: no rows")
    return rows


def read_bytes(path: Path) -> bytes:
    """The bytes of a file. Errors: UserError where it is missing, a directory or cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; expected a file") from None


def parse_row(line: bytes, where: str) -> Row:
    """One line of JSON Lines. Errors: UserError, beginning with `where`."""
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


def parse_json(text: str) -> Any:
    """A JSON value, read strictly: Python alone would take NaN, half surrogate pairs, make 1e999 infinite, and take the
    last of two equal keys. Errors: ValueError."""
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=no_constant, parse_float=finite)
    except RecursionError:
        raise ValueError("brackets within brackets, too deep to read") from None
    if ESCAPED_SURROGATE.search(text):
        check_pairs(value)
    return value


def check_pairs(value: Any) -> None:
    """Errors: HalfPair for a value with half a surrogate pair in a text or key."""
    try:
        _encode(value).encode()
    except UnicodeEncodeError as error:
        raise HalfPair(_half_pair(error)) from None


def _half_pair(error: UnicodeEncodeError) -> str:
    return f"half a surrogate pair, {error.object[error.start]!a}, which UTF-8 cannot hold"


def _unique(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("a key stands twice")
    return row


def no_constant(name: str) -> None:
    """Refuse NaN and Infinity, for json's `parse_constant`. Errors: ValueError."""
    raise ValueError(f"{name} is not a JSON value")


def finite(number: str) -> float:
    """A number as a float, for json's `parse_float`. Errors: ValueError for one beyond its range."""
    if math.isinf(value := float(number)):
        raise ValueError(f"{number} is more than a number holds")
    return value


def read_json(path: Path) -> Row:
    """Read one JSON object. Errors: UserError naming the file."""
    try:
        value = parse_json(read_bytes(path).decode("utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def of_split(rows: list[Row], split: str | None, data: Path) -> list[Row]:
    """The rows of one split; None takes all. Errors: UserError when there are none."""
    chosen = [row for row in rows if split in (None, row.get("split"))]
    if not chosen:
        splits = sorted({str(row["split"]) for row in rows if row.get("split") is not None})
        told = f"its splits are {', '.join(splits)}" if splits else "its rows have none: set split: null"
        raise UserError(f"{data}: no row of split {split!r}; {told}")
    return chosen


def encoded(row: Row, where: str) -> bytes:
    """A line of JSON Lines. Errors: UserError, beginning with `where`, for a text that UTF-8 cannot hold."""
    try:
        return f"{_encode(row)}\n".encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{where}: {_half_pair(error)}") from None


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write JSON Lines: keys in the order given, so that the same rows give the same bytes.

    Errors: UserError naming the row with a text that UTF-8 cannot hold.
    """
    lines = (encoded(row, f"{path}: row {number}") for number, row in enumerate(rows, start=1))
    write_text(path, b"".join(lines).decode())


def write_json(path: Path, value: Any) -> None:
    """Write one JSON document, indented for reading and diffing. A NaN is an error, never a number."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a file that a reader sees whole or not at all (ladder/data/atomic_write.py)."""
    with whole(path, durable=durable) as file:
        file.write(text.encode())


def column(rows: Iterable[Row], name: str, kind: type, path: Path) -> list[Any]:
    """The values of one column. Errors: UserError naming the first row that lacks it or has another type."""
    values = []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get(name), kind):
            raise UserError(f"{path}: row {number}: expected {name!r} of type {kind.__name__}, got {row.get(name)!r}")
        values.append(row[name])
    return values
