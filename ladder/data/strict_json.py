"""The strict JSON reader (RFC 8259): values, objects in lines, and arrays that do not fit in memory.

Python's own parser accepts NaN and unpaired surrogates, reads 1e999 as infinity, and keeps the last of two duplicate
keys. Here each of these is an error, and so is nesting too deep for the parser.
"""

import io
import json
import math
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from ladder.pipeline.errors import UserError

Object = dict[str, Any]
BLANK = re.compile(r"[ \t\r\n]*")
SURROGATE = re.compile("[\ud800-\udfff]")
ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
HALF_PAIR = "not Unicode: an unpaired surrogate in a text"
TOO_DEEP = "JSON nested too deeply"
encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


class HalfPair(ValueError):
    """Error for text with an unpaired surrogate, which JSON can escape but UTF-8 cannot encode."""


def parse_json(text: str) -> Any:
    """Parse a JSON value. Errors: ValueError (HalfPair for an unpaired surrogate)."""
    decoder = Decoder()
    try:
        value, end = decoder.value(text, 0)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    if end != len(text.rstrip(" \t\r\n")):
        raise json.JSONDecodeError("Extra data", text, end)
    if decoder.duplicate is not None:
        raise ValueError(f"duplicate key {decoder.duplicate!r}")
    if ESCAPED_SURROGATE.search(text):
        check_pairs(value)
    return value


def check_pairs(value: Any) -> None:
    """Reject a value with an unpaired surrogate in a text or key. Errors: HalfPair."""
    try:
        encode(value).encode()
    except UnicodeEncodeError as error:
        raise HalfPair(half_pair(error)) from None


def half_pair(error: UnicodeEncodeError) -> str:
    """Describe the unpaired surrogate that UTF-8 cannot encode."""
    return f"unpaired surrogate {error.object[error.start]!a}, which UTF-8 cannot encode"


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _finite(number: str) -> float:
    if math.isinf(value := float(number)):
        raise ValueError(f"{number} is out of range for a number")
    return value


class Decoder:
    """Strict decoder that finds where a value ends, and reports a duplicate key instead of raising."""

    def __init__(self) -> None:
        self.duplicate: str | None = None
        """A key that the last decoded value has twice in one object."""
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object, parse_constant=_no_constant, parse_float=_finite
        )

    def _object(self, pairs: list[tuple[str, Any]]) -> Object:
        row = dict(pairs)
        if len(row) < len(pairs):
            keys = [key for key, _ in pairs]
            self.duplicate = next(key for key in keys if keys.count(key) > 1)
        return row

    def row(self, text: str) -> tuple[Object | None, str]:
        """Decode a text that holds one object. Returns (object or None, fault)."""
        try:
            row, fault = self.checked(*self.value(text, 0), len(text.rstrip(" \t\r\n")))
            return (None, HALF_PAIR) if not fault and _has_half_pair(row, text, 0, len(text)) else (row, fault)
        except json.JSONDecodeError as error:
            return None, f"not JSON: {error.msg.removesuffix(' at')} at column {error.colno}"
        except RecursionError:
            return None, f"not JSON: {TOO_DEEP}"
        except ValueError as error:
            return None, f"not JSON: {error}"

    def value(self, text: str, start: int) -> tuple[Any, int]:
        """Decode the value at `start`, skipping blanks, and return it with its end.

        Errors: ValueError, RecursionError.
        """
        self.duplicate = None
        blank = BLANK.match(text, start)
        return self._decoder.raw_decode(text, blank.end() if blank else start)

    def checked(self, value: Any, end: int, length: int) -> tuple[Object | None, str]:
        """Check that the last decoded value is an object that ends at `length`. Returns (object or None, fault)."""
        if end != length:
            return None, f"not JSON: extra text after the object at column {end + 1}"
        if self.duplicate is not None:
            return None, f"duplicate key: {self.duplicate!r}"
        if not isinstance(value, dict):
            return None, f"not an object: {type(value).__name__}"
        return value, ""


def _has_half_pair(row: Object | None, text: str, start: int, end: int) -> bool:
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


def elements(stream: BinaryIO, name: str, most: int) -> Iterator[tuple[int, Object | None, str]]:
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
            cause = TOO_DEEP if isinstance(error, RecursionError) else cause
            if window.ended:
                raise UserError(f"{where}: not JSON: {cause}. The array ends there.") from None
        if len(window.text) - window.at > most:
            raise UserError(f"{where}: not JSON, or far too long: {cause}")
        window.more()
