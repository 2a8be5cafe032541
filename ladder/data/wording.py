"""Words of a row: its messages, the answer in it, runs of words, and what counts as the same text."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from ladder.data.jsonl import Row
from ladder.verifiers.reasoning import answer_of

COLUMNS = ("messages", "prompt", "completion", "chosen", "rejected")
"""The columns that hold messages, in the order in which a reader meets them."""
WORD = re.compile(r"\w+")
BLANK_LINES = re.compile(r"\n{3,}")


def messages(row: Row) -> list[Row]:
    """Every message of a row, in order; of a pair the prompt, the chosen answer and the rejected one. The reasoning of
    an answer follows it as a message of the role `reasoning`."""
    return [message for name in COLUMNS if name in row for message in with_reasoning(row[name])]


def with_reasoning(turns: list[Row]) -> list[Row]:
    """Messages, each followed by its reasoning as a message of its own."""
    if not any("reasoning_content" in turn for turn in turns):
        return turns
    return [
        part
        for turn in turns
        for part in (turn, {"role": "reasoning", "content": turn.get("reasoning_content")})
        if part["content"] is not None
    ]


def reply(row: Row) -> str:
    """What is answered in a row: the completion, the chosen answer of a pair, the assistant's turns of `messages`; of a
    prompt alone nothing."""
    for name in ("completion", "chosen"):
        if name in row:
            return "\n".join(message["content"] for message in row[name])
    return "\n".join(message["content"] for message in row.get("messages", ()) if message["role"] == "assistant")


def answer(row: Row) -> str:
    """The reply without its reasoning (ladder.verifiers.reasoning), message by message."""
    for name in ("completion", "chosen"):
        if name in row:
            return "\n".join(answer_of(message["content"]) for message in row[name])
    return "\n".join(answer_of(one["content"]) for one in row.get("messages", ()) if one["role"] == "assistant")


def replying(row: Row) -> list[bool]:
    """For each message whether it belongs to the reply."""
    column = next((name for name in ("completion", "chosen") if name in row), "messages")
    names = (name for name in COLUMNS if name in row)
    return [
        name == column and message["role"] != "reasoning" and (column != "messages" or message["role"] == "assistant")
        for name in names
        for message in with_reasoning(row[name])
    ]


@lru_cache(maxsize=16)
def words(text: str) -> tuple[str, ...]:
    """The words of a text in lower case, punctuation aside. Filters that follow each other share the last ones."""
    if text.isascii():  # the same words, three times as fast
        return tuple(text.translate(_ASCII_WORDS).split())
    return tuple(WORD.findall(text.lower()))


@lru_cache(maxsize=16)
def vocabulary(text: str) -> frozenset[str]:
    """The different words of a text."""
    return frozenset(words(text))


_ASCII_WORDS = {code: chr(code).lower() if WORD.match(chr(code)) else " " for code in range(128)}


def runs(said: tuple[str, ...], length: int) -> Iterator[tuple[str, ...]]:
    """Every run of `length` words, in order."""
    return zip(*(said[start:] for start in range(length)), strict=False)


def normalise(text: str) -> str:
    """NFC, no trailing blanks on a line, no run of three newlines or more, none at the ends."""
    lines = [line.rstrip() for line in unicodedata.normalize("NFC", text).splitlines()]
    joined = "\n".join(lines)
    return (BLANK_LINES.sub("\n\n", joined) if "\n\n\n" in joined else joined).strip()


def texts(value: Any) -> Iterable[str]:
    """Every string inside a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from texts(part)
