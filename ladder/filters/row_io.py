"""Fast reading, normalization and writing of rows, as strict as ladder/data/jsonl.py."""

import contextlib
from collections.abc import Callable

import orjson

from ladder.chat.encode import check_messages
from ladder.data.jsonl import Row, encoded, parse_row
from ladder.data.turns import COLUMNS, TYPES, answers, row_type
from ladder.data.wording import normalize
from ladder.pipeline.errors import UserError
from ladder.verifiers.constraints import meets

CHANGEABLE = (*COLUMNS, "passed")
"""Columns that a filter may change."""


def parsed(line: bytes, where: str) -> tuple[Row, bytes]:
    """Parse a user's line into (row, line to write).

    The line stays as it is if orjson reads it as strictly as ladder/data/jsonl.py. Otherwise the line is parsed and
    encoded by ladder/data/jsonl.py.
    """
    with contextlib.suppress(orjson.JSONDecodeError, orjson.JSONEncodeError):
        row = orjson.loads(line)
        if line.startswith(b"{") and line.endswith(b"}\n") and _whole(row, line):
            return row, line
    row = parse_row(line, where)
    return row, encoded(row, where)


def _whole(row: Row, line: bytes) -> bool:
    """Whether every string of a line is in its row. orjson accepts a repeated key and drops one value.

    Then line and row have equally many quotation marks, including those inside strings. A line with the escape
    `\\u0022` cannot be checked in this way.
    """
    return line.count(b'"') == orjson.dumps(row).count(b'"') and not (b"\\" in line and b"\\u0022" in line)


def with_texts(line: bytes, row: Row, where: str) -> bytes:
    """Encode a line with the changed texts of its row, and its verdict. All other columns keep their values.

    The line is parsed by ladder/data/jsonl.py, because orjson turns long integers into floats.
    """
    return encoded({**parse_row(line, where), **{name: row[name] for name in CHANGEABLE if name in row}}, where)


def rejection(label: str, reason: str, line: bytes) -> bytes:
    """Encode a rejected row with the columns `filter` and `reason` before its own."""
    return encoded({"filter": label, "reason": reason}, label).removesuffix(b"}\n") + b", " + line[1:]


def normalized(row: Row, where: str) -> Row:
    """Normalize the texts of a row. Errors: UserError for a row of none of TRL's types, or with reserved columns."""
    columns = TYPES[row_type(row, where)]
    for name in COLUMNS:
        if name in columns or row.get(name, []) != []:
            check_messages(row.get(name), f"{where}: {name}")
    if "filter" in row or "reason" in row:
        raise UserError(
            f"{where}: the columns `filter` and `reason` are reserved for the ledger. Remove or rename them."
        )
    return rewritten(row, normalize)


def rewritten(row: Row, function: Callable[[str], str]) -> Row:
    """Apply `function` to the text and the reasoning of every message. Returns the same object if nothing changes.

    The verdict `passed` of a changed row is computed again, because it is of another text.
    """
    changed: Row = {}
    for name in COLUMNS:
        if name in row:
            messages = [_rewritten(message, function) for message in row[name]]
            if messages != row[name]:
                changed[name] = messages
    if not changed:
        return row
    row = {**row, **changed}
    if "passed" in row and isinstance(row.get("checks"), list):
        row["passed"] = meets((answers(row) or [""])[-1], row["checks"])
    return row


def _rewritten(message: Row, function: Callable[[str], str]) -> Row:
    text, reasoning = function(message["content"]), message.get("reasoning_content")
    if reasoning is not None and (thought := function(reasoning)) != reasoning:
        return {**message, "content": text, "reasoning_content": thought}
    return message if text == message["content"] else {**message, "content": text}
