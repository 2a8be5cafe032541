"""A row and its line in a file, quickly: read as strictly as ladder/data/jsonl.py does, normalised, written."""

import contextlib
from collections.abc import Callable

import orjson

from ladder.chat.encode import check_messages
from ladder.data.jsonl import Row, encoded, parse_row
from ladder.data.wording import COLUMNS, normalise
from ladder.pipeline.stage import UserError

TYPES = (("prompt",), ("messages",), ("prompt", "completion"), ("prompt", "chosen", "rejected"))


def parsed(line: bytes, where: str) -> tuple[Row, bytes]:
    """A user's line as a row, and as it is to be written: the same, or what we make of one that orjson will not read
    or write, or reads less strictly than we do."""
    with contextlib.suppress(orjson.JSONDecodeError, orjson.JSONEncodeError):
        row = orjson.loads(line)
        if line.startswith(b"{") and line.endswith(b"}\n") and _whole(row, line):
            return row, line
    row = parse_row(line, where)
    return row, encoded(row, where)


def _whole(row: Row, line: bytes) -> bool:
    """Whether every string of a line is in its row: with a repeated key, which orjson lets pass, at least one is lost.

    Both have the same quotation marks then, those inside strings too, unless the line writes one by its number."""
    return line.count(b'"') == orjson.dumps(row).count(b'"') and not (b"\\" in line and b"\\u0022" in line)


def with_texts(line: bytes, row: Row, where: str) -> bytes:
    """The line of a row of which texts have changed; all else as it stood (orjson makes a float of a long integer)."""
    return encoded({**parse_row(line, where), **{name: row[name] for name in COLUMNS if name in row}}, where)


def told(label: str, reason: str, line: bytes) -> bytes:
    """A rejected row as it was written, with the filter's name and its reason before all else."""
    return encoded({"filter": label, "reason": reason}, label).removesuffix(b"}\n") + b", " + line[1:]


def normalised(row: Row, where: str) -> Row:
    """The row with its texts normalised. Errors: UserError when it is of none of TRL's types."""
    columns = next((names for names in reversed(TYPES) if all(map(row.__contains__, names))), TYPES[2])
    for name in COLUMNS:
        if name in columns or row.get(name, []) != []:
            check_messages(row.get(name), f"{where}: {name}")
    if "filter" in row or "reason" in row:
        raise UserError(
            f"{where}: the columns `filter` and `reason` are the ledger's; drop them or name them otherwise"
        )
    return rewritten(row, normalise)


def rewritten(row: Row, function: Callable[[str], str]) -> Row:
    """The row with what `function` makes of every message's text; the same object where that is nothing."""
    changed: Row = {}
    for name in COLUMNS:
        if name in row:
            messages = [_rewritten(message, function) for message in row[name]]
            if messages != row[name]:
                changed[name] = messages
    return {**row, **changed} if changed else row


def _rewritten(message: Row, function: Callable[[str], str]) -> Row:
    text, reasoning = function(message["content"]), message.get("reasoning_content")
    if reasoning is not None and (thought := function(reasoning)) != reasoning:
        return {**message, "content": text, "reasoning_content": thought}
    return message if text == message["content"] else {**message, "content": text}
