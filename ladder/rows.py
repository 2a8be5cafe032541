"""Rows on disk: JSON Lines in, JSON Lines out. What is written is whole or not there."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from ladder.run import Refused
from ladder.writing import whole

Row = dict[str, Any]
Kind = Literal["messages", "completion", "preference", "unpaired", "prompt"]
"""TRL's row types: `messages`, `prompt, completion`, `prompt, chosen, rejected`, `prompt, completion, label` (unpaired
preferences), or `prompt` alone, to be answered."""


def read_rows(path: Path) -> list[Row]:
    """Read JSON Lines (UTF-8, one object a line). Errors: Refused with file and line."""
    rows = []
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        raise Refused(f"{path}: no such file") from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            rows.append(parse_row(line, f"{path}:{number}"))
    if not rows:
        raise Refused(f"{path}: no rows")
    return rows


def parse_row(line: bytes, where: str) -> Row:
    """One line of JSON Lines. Errors: Refused, beginning with `where`."""
    try:
        row = parse_json(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Refused(f"{where}: not UTF-8 at byte {error.start} of the line") from None
    except ValueError as error:
        raise Refused(f"{where}: not JSON: {error}") from None
    if not isinstance(row, dict):
        raise Refused(f"{where}: expected a JSON object, got {type(row).__name__}")
    return row


def parse_json(text: str) -> Any:
    """A JSON value, read strictly: Python alone would take NaN, make 1e999 infinite, and take the last of two equal
    keys. Errors: ValueError."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=no_constant, parse_float=finite)
    except RecursionError:
        raise ValueError("brackets within brackets, too deep to read") from None


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
    """Read one JSON object. Errors: Refused naming the file."""
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Refused(f"{path}: no such file") from None
    except ValueError as error:
        raise Refused(f"{path}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Refused(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def of_split(rows: list[Row], split: str | None, data: Path) -> list[Row]:
    """The rows of one split; None takes all. Errors: Refused when there are none."""
    chosen = [row for row in rows if split in (None, row.get("split"))]
    if not chosen:
        splits = sorted({str(row["split"]) for row in rows if row.get("split") is not None})
        told = f"its splits are {', '.join(splits)}" if splits else "its rows have none: set split: null"
        raise Refused(f"{data}: no row of split {split!r}; {told}")
    return chosen


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def encoded(row: Row, where: str) -> bytes:
    """A line of JSON Lines. Errors: Refused, beginning with `where`, for a text that UTF-8 cannot hold."""
    try:
        return f"{_encode(row)}\n".encode()
    except UnicodeEncodeError as error:
        raise Refused(
            f"{where}: half a surrogate pair, {error.object[error.start]!a}, which UTF-8 cannot hold"
        ) from None


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write JSON Lines: keys in the order given, so that the same rows give the same bytes."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def write_json(path: Path, value: Any) -> None:
    """Write one JSON document, indented for reading and diffing. A NaN is an error, never a number."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a file that a reader sees whole or not at all (ladder/writing.py)."""
    with whole(path, durable=durable) as file:
        file.write(text.encode())


def column(rows: Iterable[Row], name: str, kind: type, path: Path) -> list[Any]:
    """The values of one column. Errors: Refused naming the first row that lacks it or has another type."""
    values = []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get(name), kind):
            raise Refused(f"{path}: row {number}: expected {name!r} of type {kind.__name__}, got {row.get(name)!r}")
        values.append(row[name])
    return values
