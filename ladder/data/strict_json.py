"""JSON read strictly, from lines and from arrays too large for memory."""

import io
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from ladder.data.jsonl import ESCAPED_SURROGATE, HalfPair, Row, check_pairs, finite, no_constant
from ladder.pipeline.stage import UserError

BLANK = re.compile(r"[ \t\r\n]*")
SURROGATE = re.compile("[\ud800-\udfff]")


HALF_PAIR = "not Unicode: half a surrogate pair in a text"


class Decoder:
    """RFC 8259: no NaN, no number beyond a float, no key twice in an object (Python's own takes all three)."""

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
        """The object that a text is, or the fault."""
        try:
            row, fault = self.checked(*self.value(text, 0), len(text.rstrip(" \t\r\n")))
            return (None, HALF_PAIR) if not fault and _has_half_pair(row, text, 0, len(text)) else (row, fault)
        except json.JSONDecodeError as error:
            return None, f"not JSON: {error.msg.removesuffix(' at')} at column {error.colno}"
        except (ValueError, RecursionError) as error:
            return None, f"not JSON: {error}"

    def value(self, text: str, start: int) -> tuple[Any, int]:
        """The value that begins at `start`, blanks aside, and where it ends. Errors: ValueError, RecursionError."""
        self._twice = None
        blank = BLANK.match(text, start)
        return self._decoder.raw_decode(text, blank.end() if blank else start)

    def checked(self, value: Any, end: int, length: int) -> tuple[Row | None, str]:
        """The last value read, if it is a row and the text ends with it, or the fault."""
        if end != length:
            return None, f"not JSON: something follows the object at column {end + 1}"
        if self._twice is not None:
            return None, f"key twice: {self._twice!r}"
        if not isinstance(value, dict):
            return None, f"not an object: {type(value).__name__}"
        return value, ""


def _has_half_pair(row: Row | None, text: str, start: int, end: int) -> bool:
    """Whether a row that is written in `text` has half a surrogate pair, which JSON can escape."""
    if not ESCAPED_SURROGATE.search(text, start, end):
        return False
    try:
        check_pairs(row)
    except HalfPair:
        return True
    return False


class _Window:
    """The part of a text that is being read."""

    def __init__(self, stream: BinaryIO) -> None:
        # Bytes that are no UTF-8 become surrogates: they spoil the one element that they stand in.
        self._stream = io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="")
        self.text, self.at, self.ended = "", 0, False

    def more(self) -> None:
        """Drop what is read and get as much again as is left, so that long elements cost no more than their length."""
        self.text, self.at = self.text[self.at :], 0
        added = self._stream.read(max(1 << 16, len(self.text)))
        self.ended = not added
        self.text += added

    def mark(self) -> str:
        """The next character that is not blank; empty at the end of the text."""
        while True:
            blank = BLANK.match(self.text, self.at)
            self.at = blank.end() if blank else self.at
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self.more()


def elements(stream: BinaryIO, name: str, most: int) -> Iterator[tuple[int, Row | None, str]]:
    """(number from 1, object or None, fault) of every element of a JSON array, `most` characters of it at a time.

    Errors: UserError naming the element at which the array's syntax breaks: what follows it cannot be told apart.
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
        told = "a number"
        try:
            value, end = decoder.value(window.text, window.at)
            if end < len(window.text) or window.ended:
                return value, end
        except (ValueError, RecursionError) as error:
            told = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            if window.ended:
                raise UserError(f"{where}: not JSON: {told}; the array ends there") from None
        if len(window.text) - window.at > most:
            raise UserError(f"{where}: not JSON, or far too long: {told}")
        window.more()
