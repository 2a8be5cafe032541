"""Plain data of YAML files: merging, comparing, and writing on one line."""

import json
import re
from typing import Any

PLAIN = re.compile(r"[A-Za-z_./][\w./@+-]*")
WORDS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
"""Words that a YAML reader may take for another type than a string."""


def same(one: Any, other: Any) -> bool:
    """Return whether two values are equal and of one type; 1 equals 1.0, but not true."""
    return first_difference(one, other, ()) is None


def first_difference(one: Any, other: Any, keys: tuple[object, ...] = ()) -> tuple[object, ...] | None:
    """Return the keys to the first difference of two values; None if they are equal."""
    if isinstance(one, dict) and isinstance(other, dict):
        if odd := [name for name in (*one, *other) if name not in one or name not in other]:
            return (*keys, odd[0])
        found = (first_difference(one[name], other[name], (*keys, name)) for name in one)
        return next((inner for inner in found if inner is not None), None)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        found = (first_difference(*pair, (*keys, place)) for place, pair in enumerate(zip(one, other, strict=True)))
        return next((inner for inner in found if inner is not None), None)
    return None if one == other and isinstance(one, bool) == isinstance(other, bool) else keys


def one_line(value: Any) -> str:
    """Write plain data on one line of YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{one_line(name)}: {one_line(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(one_line, value))}]"
    if isinstance(value, str) and PLAIN.fullmatch(value) and value.lower() not in WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)
