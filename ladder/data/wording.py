"""Text utilities for rows: messages, replies, words, n-grams and normalization."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from ladder.data.jsonl import Row
from ladder.verifiers.reasoning import answer_of

COLUMNS = ("messages", "prompt", "completion", "chosen", "rejected")
"""Columns that hold messages, in reading order."""
WORD = re.compile(r"\w+")
BLANK_LINES = re.compile(r"\n{3,}")


def messages(row: Row) -> list[Row]:
    """Return all messages of a row in order; for a pair the prompt, the chosen and the rejected answer.

    The reasoning of an answer follows it as a message with the role `reasoning`.
    """
    return [message for name in COLUMNS if name in row for message in with_reasoning(row[name])]


def with_reasoning(turns: list[Row]) -> list[Row]:
    """Insert the reasoning of each message after it, as a message with the role `reasoning`."""
    if not any("reasoning_content" in turn for turn in turns):
        return turns
    return [
        part
        for turn in turns
        for part in (turn, {"role": "reasoning", "content": turn.get("reasoning_content")})
        if part["content"] is not None
    ]


def reply(row: Row) -> str:
    """Return the reply of a row: the completion, the chosen answer of a pair, or the assistant's turns of `messages`.

    A row with only a prompt has an empty reply.
    """
    for name in ("completion", "chosen"):
        if name in row:
            return "\n".join(message["content"] for message in row[name])
    return "\n".join(message["content"] for message in row.get("messages", ()) if message["role"] == "assistant")


def answer(row: Row) -> str:
    """Return the reply without reasoning (ladder.verifiers.reasoning), message by message."""
    for name in ("completion", "chosen"):
        if name in row:
            return "\n".join(answer_of(message["content"]) for message in row[name])
    return "\n".join(answer_of(one["content"]) for one in row.get("messages", ()) if one["role"] == "assistant")


def replying(row: Row) -> list[bool]:
    """Return, for each message of `messages(row)`, whether it belongs to the reply."""
    column = next((name for name in ("completion", "chosen") if name in row), "messages")
    names = (name for name in COLUMNS if name in row)
    return [
        name == column and message["role"] != "reasoning" and (column != "messages" or message["role"] == "assistant")
        for name in names
        for message in with_reasoning(row[name])
    ]


@lru_cache(maxsize=16)
def words(text: str) -> tuple[str, ...]:
    """Split a text into lower-case words without punctuation.

    Cached, because consecutive filters read the same text.
    """
    if text.isascii():  # same result, three times as fast
        return tuple(text.translate(_ASCII_WORDS).split())
    return tuple(WORD.findall(text.lower()))


@lru_cache(maxsize=16)
def vocabulary(text: str) -> frozenset[str]:
    """Return the distinct words of a text."""
    return frozenset(words(text))


_ASCII_WORDS = {code: chr(code).lower() if WORD.match(chr(code)) else " " for code in range(128)}


def runs(said: tuple[str, ...], length: int) -> Iterator[tuple[str, ...]]:
    """Iterate over the n-grams of `length` words, in order."""
    return zip(*(said[start:] for start in range(length)), strict=False)


def normalize(text: str) -> str:
    """Normalize a text: NFC, no trailing blanks on a line, at most one blank line in a row, stripped at both ends."""
    lines = [line.rstrip() for line in unicodedata.normalize("NFC", text).splitlines()]
    joined = "\n".join(lines)
    return (BLANK_LINES.sub("\n\n", joined) if "\n\n\n" in joined else joined).strip()


def texts(value: Any) -> Iterable[str]:
    """Iterate over every string inside a JSON value, except object keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from texts(part)
