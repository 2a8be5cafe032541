"""Text utilities: words, n-grams and normalization."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

WORD = re.compile(r"\w+")
BLANK_LINES = re.compile(r"\n{3,}")


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
