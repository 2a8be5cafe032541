"""Classify columns of published rows, and keys of their messages, by name: read, ignore or reject.

A column that may affect training must be read or rejected. Names are compared in snake case, so `avatarUrl`,
`Avatar-URL` and `avatar_url` are the same name. ladder/data/column_names.py has the tables of names.
"""

import math
import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Any

from ladder.data.column_names import (
    BAD_LABELS,
    BAD_WORDS,
    GOOD_WORDS,
    HARMLESS,
    HARMLESS_FIRST,
    HARMLESS_LAST,
    HARMLESS_MEDIA,
    HARMLESS_TOOLS,
    LABELS,
    MASKED,
    MEDIA,
    NOTHING,
    TEXTS,
    TOOLS,
    TRAINED,
    WORD_LABELS,
)
from ladder.data.jsonl import Row
from ladder.pipeline.errors import InvalidRow

PLACEHOLDER = re.compile(
    r"<(?:image|video|audio|img|speech|sound)(?:_\d+|_placeholder)?>|<\|(?:image|video|audio|vision_start|image_pad)"
    r"(?:_\d+)?\|>|\[IMG\]|<(?:image|start_of_image|image_soft_token)>"
)
"""Where a template inserts an image, a video or audio."""
MEDIA_FILE = re.compile(
    r"\.(?:jpe?g|png|gif|webp|bmp|tiff?|svg|heic|mp4|avi|mov|webm|mkv|mp3|wav|flac|ogg|m4a|aac|npy|pdf)(?:\?\S*)?\Z"
    r"|\Adata:(?:image|audio|video)/",
    re.IGNORECASE,
)
_WORDS = re.compile(r"\W+|_+")
_CAMEL = re.compile(r"([a-z0-9])([A-Z])")


class Unread(InvalidRow):
    """Error for columns or keys that no format reads.

    `names` lists all of them. `unknown` lists those that the user may ignore.
    """

    def __init__(self, names: Collection[str], unknown: Collection[str], place: str = "", why: str = "") -> None:
        of = f" of {place}" if place else ""
        fix = ". Name them in `columns` or `ignore`" if unknown and not why else ""
        super().__init__(f"column not read: {', '.join(map(repr, names))}{of}{why and f': {why}'}{fix}")
        self.names, self.unknown = list(names), list(unknown)


@lru_cache(maxsize=4096)
def plain(name: str) -> str:
    """Convert a name to snake case: lower case with underscores."""
    return _WORDS.sub("_", _CAMEL.sub(r"\1_\2", name)).strip("_").lower()


def empty(value: Any) -> bool:
    """Return whether a value carries no information.

    Empty values are null, blank text, texts such as `null` or `[]`, NaN, false, and lists or objects of empty values.
    Arrow writes null for a key that only other rows have.
    """
    if isinstance(value, str):
        return value.strip().lower() in NOTHING
    if isinstance(value, float):
        return math.isnan(value)
    if isinstance(value, dict):
        return all(map(empty, value.values()))
    if isinstance(value, list | tuple):
        return all(map(empty, value))
    return value is None or value is False


def canonical(row: Row, ignore: Collection[str]) -> Row:
    """Drop ignored columns, and rename columns to the formats' own spelling regardless of case.

    Errors: InvalidRow for two columns whose names differ only in spelling, when both have a value.
    """
    found: Row = {}
    for name, value in row.items():
        if name in ignore:
            continue
        ours = plain(name) if plain(name) in _TEXTS else name
        if ours in found and not empty(found[ours]) and not empty(value):
            raise InvalidRow(f"column twice: {ours!r}, in two spellings")
        if ours not in found or empty(found[ours]):
            found[ours] = value
    return found


_TEXTS = frozenset(TEXTS)


@lru_cache(maxsize=4096)
def harmless(name: str) -> bool:
    """Return whether a column or key does not affect training: an id, a source, a date, a score or a language."""
    words = plain(name).split("_")
    return plain(name) in HARMLESS or words[-1] in HARMLESS_LAST or words[0] in HARMLESS_FIRST


@lru_cache(maxsize=4096)
def media(name: str) -> bool:
    """Return whether a column name indicates images, video, audio or files."""
    return bool(MEDIA & set(plain(name).split("_"))) and plain(name) not in HARMLESS_MEDIA


@lru_cache(maxsize=4096)
def tools(name: str) -> bool:
    """Return whether a column name indicates tools or tool calls."""
    return bool(TOOLS & set(plain(name).split("_"))) and plain(name) not in HARMLESS_TOOLS


def is_media(value: Any) -> bool:
    """Return whether a value is an image, audio or video: its bytes, or the name of a media file."""
    if isinstance(value, str):
        return MEDIA_FILE.search(value) is not None
    if isinstance(value, dict):
        return isinstance(value.get("bytes"), bytes) or is_media(value.get("path")) or is_media(value.get("url"))
    return isinstance(value, bytes) or (isinstance(value, list) and any(map(is_media, value)))


def check(row: Row, read: Collection[str], texts: Iterable[str], place: str = "") -> None:
    """Reject a row, or the message at `place`, with an unread column that may affect training.

    `read` are the columns that the format reads. A column that another format would read is accepted if it only
    repeats `texts`. Errors: Unread with all unread columns.
    """
    left = [name for name, value in row.items() if name not in read and not empty(value)]
    unread = [name for name in left if media(name) or tools(name) or plain(name).endswith("history")]
    if unread:
        raise Unread(unread, (), place, _why(unread))
    unknown = [name for name in left if not harmless(name) or plain(name) in _TEXTS]
    if repeated := [name for name in unknown if plain(name) in _TEXTS]:
        said = list(texts)
        unknown = [name for name in unknown if name not in repeated or not _repeats(row[name], said)]
    if unknown:
        raise Unread(unknown, unknown, place)


def _why(names: list[str]) -> str:
    if any(map(media, names)):
        return "images, video, audio and files are not supported"
    return "tools and tool calls are not supported" if any(map(tools, names)) else "put the turns in `messages`"


def _repeats(value: Any, texts: list[str]) -> bool:
    """Return whether `texts` contain every string of a value, or a single string contains all `texts`."""
    if isinstance(value, str):
        asked = value.strip()
        return any(asked in text for text in texts) or all(text.strip() in asked for text in texts)
    if isinstance(value, dict):
        return all(_repeats(part, texts) for name, part in value.items() if name not in ("role", "from") and part)
    return isinstance(value, list) and all(_repeats(part, texts) for part in value)


def check_placeholders(row: Row, texts: Iterable[str]) -> None:
    """Reject a text with a media placeholder if another column holds the media, whatever that column's name.

    Errors: Unread.
    """
    found = next((match for text in texts if "<" in text or "[" in text if (match := PLACEHOLDER.search(text))), None)
    if found is None:
        return
    for name, value in row.items():
        if plain(name) not in _TEXTS and not empty(value) and (media(name) or is_media(value)):
            raise Unread([name], (), why=f"the text refers to it as {found[0]!r}")


def binary(value: Any, *, numbers: bool = True) -> bool | None:
    """Convert a label value to True (good) or False (bad); None if it is neither.

    With `numbers`, 1 is good, 0 and -1 are bad.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return {1.0: True, 0.0: False, -1.0: False}.get(float(value)) if numbers else None
    if isinstance(value, str):
        word = " ".join(re.split(r"[\s_-]+", value.strip().lower().strip(":")))
        if numbers and word in ("0", "1", "-1", "0.0", "1.0"):
            return word in ("1", "1.0")
        return True if word in GOOD_WORDS else False if word in BAD_WORDS else None
    return None


def label(row: Row) -> tuple[str, bool] | None:
    """Return (column, whether the answer is good) for an unpaired preference row; None without a label.

    Errors: InvalidRow for contradictory labels.
    """
    found: dict[str, bool] = {}
    for name, value in row.items():
        own = plain(name)
        if own in LABELS or own in BAD_LABELS or own in WORD_LABELS:
            good = binary(value, numbers=own not in WORD_LABELS)
            if good is not None:
                found[name] = good != (own in BAD_LABELS)
    if len(set(found.values())) > 1:
        raise InvalidRow(f"label: {', '.join(map(repr, found))} contradict each other. Name one in `ignore`")
    return next(iter(found.items()), None)


def flag(name: str, value: Any, place: str) -> bool:
    """Parse a flag of a message or row as a boolean. Errors: InvalidRow for a value that is not a flag."""
    given = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False, "1.0": True, "0.0": False}
    found = given.get(value.strip().lower()) if isinstance(value, str) else value
    if plain(name) == "mask" and isinstance(value, str) and value.strip().lower() in ("user", "human"):
        return False  # NeMo: the value names the role whose turns are masked
    if plain(name) == "mask" and found in (0, 1) and not isinstance(found, bool):
        raise InvalidRow(f"flag: {name!r} of {place} is the number {value}, which is ambiguous: masked or trained")
    if isinstance(found, bool | int | float) and found in (0, 1):
        return bool(found)
    raise InvalidRow(f"flag: {name!r} of {place}: expected true or false, 0 or 1, got {value!r:.60}")


def learned(of: Row, place: str, ignore: Collection[str] = ()) -> tuple[str, bool] | None:
    """Return (key, whether the message or row is trained on) from a training flag under any name; None without a flag.

    Errors: InvalidRow for a value that is not a flag, and for contradictory flags.
    """
    found: dict[str, bool] = {}
    for name, value in of.items():
        own = plain(name)
        if (own in TRAINED or own in MASKED) and name not in ignore and not _absent(value):
            found[name] = flag(name, value, place) != (own in MASKED)
    if len(set(found.values())) > 1:
        raise InvalidRow(f"flag: {', '.join(map(repr, found))} of {place} contradict each other")
    return next(iter(found.items()), None)


def _absent(value: Any) -> bool:
    return value is not False and empty(value)


def is_flag(name: str) -> bool:
    """Return whether a column or key is a training flag."""
    return plain(name) in TRAINED or plain(name) in MASKED
