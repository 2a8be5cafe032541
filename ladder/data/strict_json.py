"""Strict JSON decoder for lines, and a streaming decoder for arrays that do not fit in memory."""

import io
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from ladder.data.jsonl import ESCAPED_SURROGATE, HalfPair, Row, check_pairs, finite, no_constant
from ladder.pipeline.stage import UserError

BLANK = re.compile(r"[ \t\r\n]*")
SURROGATE = re.compile("[\ud800-\udfff]")


HALF_PAIR = "not Unicode: an unpaired surrogate in a text"


class Decoder:
    """Strict RFC 8259 decoder.

    Rejects NaN, numbers outside the range of a float, and duplicate keys. Python's own decoder accepts all three.
    """

    def __init__(self) -> None:
        self._twice: str | None = None
        self._decoder = json.JSONDecoder(object_pairs_hook=self._object, parse_constant=no_constant, parse_float=finite)

    def _object(self, pairs: list[tuple[str, Any]]) -> Row:
        row = dict(pairs)
        if len(row) < len(pairs):
            keys = [key for key, _ in pairs]
            self._twice = next(key for key in keys if keys.count(key) > 1)
        return row

    def row(self, text: str) -> tuple[Row | None, str]:
        """Decode a text that holds one object. Returns (object or None, fault)."""
        try:
            row, fault = self.checked(*self.value(text, 0), len(text.rstrip(" \t\r\n")))
            return (None, HALF_PAIR) if not fault and _has_half_pair(row, text, 0, len(text)) else (row, fault)
        except json.JSONDecodeError as error:
            return None, f"not JSON: {error.msg.removesuffix(' at')} at column {error.colno}"
        except (ValueError, RecursionError) as error:
            return None, f"not JSON: {error}"

    def value(self, text: str, start: int) -> tuple[Any, int]:
        """Decode the value at `start`, skipping blanks, and return it with its end.

        Errors: ValueError, RecursionError.
        """
        self._twice = None
        blank = BLANK.match(text, start)
        return self._decoder.raw_decode(text, blank.end() if blank else start)

    def checked(self, value: Any, end: int, length: int) -> tuple[Row | None, str]:
        """Check that the last decoded value is an object that ends at `length`. Returns (object or None, fault)."""
        if end != length:
            return None, f"not JSON: extra text after the object at column {end + 1}"
        if self._twice is not None:
            return None, f"key twice: {self._twice!r}"
        if not isinstance(value, dict):
            return None, f"not an object: {type(value).__name__}"
        return value, ""


def _has_half_pair(row: Row | None, text: str, start: int, end: int) -> bool:
    """Return whether `row`, written in `text[start:end]`, has an unpaired surrogate. JSON can escape one."""
    if not ESCAPED_SURROGATE.search(text, start, end):
        return False
    try:
        check_pairs(row)
    except HalfPair:
        return True
    return False


class _Window:
    """Sliding window over the text of a stream."""

    def __init__(self, stream: BinaryIO) -> None:
        # Invalid UTF-8 becomes surrogates, so that it invalidates only the element that contains it.
        self._stream = io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="")
        self.text, self.at, self.ended = "", 0, False

    def more(self) -> None:
        """Drop the consumed text and read as much again as remains: the cost is linear in the length of an element."""
        self.text, self.at = self.text[self.at :], 0
        added = self._stream.read(max(1 << 16, len(self.text)))
        self.ended = not added
        self.text += added

    def mark(self) -> str:
        """Return the next non-blank character without consuming it; an empty string at the end of the text."""
        while True:
            blank = BLANK.match(self.text, self.at)
            self.at = blank.end() if blank else self.at
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self.more()


def elements(stream: BinaryIO, name: str, most: int) -> Iterator[tuple[int, Row | None, str]]:
    """Iterate over the elements of a JSON array. Yields (1-based number, object or None, fault).

    `most` is the maximum length of an element in characters; it bounds the text in memory.

    Errors: UserError naming the element at which the array's syntax breaks, because later elements cannot be located.
    """
    decoder, window, number = Decoder(), _Window(stream), 0
    window.mark()
    window.at += 1
    while (mark := window.mark()) != "]":
        if number and mark != ",":
            raise UserError(f"{name}: element {number}: expected a comma or ] after it, got {mark or 'the end'}")
        window.at += bool(number)
        number += 1
        window.mark()
        value, end = _element(decoder, window, f"{name}: element {number}", most)
        row, fault = decoder.checked(value, end, end)
        if SURROGATE.search(window.text, window.at, end):
            row, fault = None, "not UTF-8: a text of this element"
        elif not fault and _has_half_pair(row, window.text, window.at, end):
            row, fault = None, HALF_PAIR
        if end - window.at > most:
            row, fault = None, f"too long: {end - window.at} characters, more than {most}"
        window.at = end
        yield number, row, fault
    window.at += 1
    if mark := window.mark():
        raise UserError(f"{name}: expected the end after the array, got {mark!r}")


def _element(decoder: Decoder, window: _Window, where: str, most: int) -> tuple[Any, int]:
    while True:
        cause = "a number"
        try:
            value, end = decoder.value(window.text, window.at)
            if end < len(window.text) or window.ended:
                return value, end
        except (ValueError, RecursionError) as error:
            cause = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            if window.ended:
                raise UserError(f"{where}: not JSON: {cause}. The array ends there.") from None
        if len(window.text) - window.at > most:
            raise UserError(f"{where}: not JSON, or far too long: {cause}")
        window.more()
