"""A row and its line in a file, quickly: read as strictly as ladder/rows.py does, normalised, written."""

import contextlib
import json
from collections.abc import Callable
from typing import Any

import orjson

from ladder.chat import check_messages
from ladder.rows import Row, parse_row
from ladder.run import Refused
from ladder.wording import COLUMNS, normalise

TYPES = (("messages",), ("prompt", "completion"), ("prompt", "chosen", "rejected"))

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def parsed(line: bytes, where: str) -> tuple[Row, bytes]:
    """A user's line, and as we write it. orjson lets a repeated key pass: what it reads must give the line again."""
    with contextlib.suppress(orjson.JSONDecodeError):
        row = orjson.loads(line)
        if isinstance(row, dict):
            written = encoded(row, where) if b"\\" in line else f"{_plain(row)}\n".encode()
            if written == line:
                return row, line
    row = parse_row(line, where)
    return row, encoded(row, where)


def encoded(row: Row, where: str) -> bytes:
    try:
        return f"{_encode(row)}\n".encode()
    except UnicodeEncodeError as error:
        raise Refused(
            f"{where}: half a surrogate pair, {error.object[error.start]!a}, which UTF-8 cannot hold"
        ) from None


def _plain(value: Any) -> str:
    """A value as `encoded` writes it, where no text in it has anything to escape; in half the time."""
    kind = type(value)
    if kind is str:
        return f'"{value}"'
    if kind is dict:
        return "{" + ", ".join([f'"{name}": {_plain(part)}' for name, part in value.items()]) + "}"
    if kind is list:
        return "[" + ", ".join(map(_plain, value)) + "]"
    return str(value) if kind is int else _encode(value)


def told(label: str, reason: str, line: bytes) -> bytes:
    """A rejected row as it was written, with the filter's name and its reason before all else."""
    return _encode({"filter": label, "reason": reason})[:-1].encode() + b", " + line[1:]


def normalised(row: Row, where: str) -> Row:
    """The row with its texts normalised. Errors: Refused when it is of no type that TRL trains on."""
    columns = next((names for names in reversed(TYPES) if all(map(row.__contains__, names))), TYPES[1])
    for name in columns:
        check_messages(row.get(name), f"{where}: {name}")
    if "filter" in row or "reason" in row:
        raise Refused(f"{where}: the columns `filter` and `reason` are the ledger's; drop them or name them otherwise")
    return rewritten(row, normalise)


def rewritten(row: Row, function: Callable[[str], str]) -> Row:
    """The row with what `function` makes of every message's text; the same object where that is nothing."""
    columns = [name for name in COLUMNS if name in row]
    texts = [[function(message["content"]) for message in row[name]] for name in columns]
    if texts == [[message["content"] for message in row[name]] for name in columns]:
        return row
    return {
        **row,
        **{
            name: [{**message, "content": text} for message, text in zip(row[name], several, strict=True)]
            for name, several in zip(columns, texts, strict=True)
        },
    }
