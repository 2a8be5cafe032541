"""Filters: plain functions that say of every row why it goes, or None when it stays.

A filter takes the rows that are left and its own parameters, and returns one reason or None for each. The module
is the registry: params.yaml names the function, its keyword arguments are its parameters.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from ladder.checks import meets
from ladder.rows import Row

Reasons = list[str | None]
WORD = re.compile(r"\w+")


def question(row: Row) -> str:
    """What the user asks in a row."""
    return "\n".join(message["content"] for message in row["prompt"] if message["role"] == "user")


def reply(row: Row) -> str:
    """What the assistant answers in a row."""
    return "\n".join(message["content"] for message in row["completion"])


def normalise(text: str) -> str:
    """NFC, no trailing blanks on a line, no run of three newlines or more, none at the ends."""
    lines = [line.rstrip() for line in unicodedata.normalize("NFC", text).splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def finished(rows: list[Row]) -> Reasons:
    """The answer ended by itself, or was edited to an end."""
    return [None if row["finished"] else "not finished" for row in rows]


def verified(rows: list[Row]) -> Reasons:
    """The answer meets every check of its prompt."""
    return [_missed(row) for row in rows]


def _missed(row: Row) -> str | None:
    verdicts = meets(reply(row), row["checks"])
    missed = [check["kind"] for check, met in zip(row["checks"], verdicts, strict=True) if not met]
    return f"misses {', '.join(missed)}" if missed else None


def length(rows: list[Row], *, least: int, most: int) -> Reasons:
    """The answer has `least` to `most` words."""
    counts = [len(WORD.findall(reply(row))) for row in rows]
    return [None if least <= count <= most else f"{count} words" for count in counts]


def repetition(rows: list[Row], *, ngram: int, most: float) -> Reasons:
    """At most a share `most` of the answer's words stands in runs of `ngram` words that it has already said
    (Rae et al. 2021, "Gopher", table A1: duplicate n-grams)."""
    shares = [_repeated(WORD.findall(reply(row).lower()), ngram) for row in rows]
    return [None if share <= most else f"{share:.0%} repeated" for share in shares]


def _repeated(words: list[str], ngram: int) -> float:
    seen: set[tuple[str, ...]] = set()
    repeated: set[int] = set()
    for start in range(len(words) - ngram + 1):
        run = tuple(words[start : start + ngram])
        if run in seen:
            repeated.update(range(start, start + ngram))
        seen.add(run)
    return len(repeated) / max(1, len(words))


def exact(rows: list[Row]) -> Reasons:
    """The same question with the same answer, but for case and blanks, stands once: the first time."""
    seen: set[bytes] = set()
    reasons: Reasons = []
    for row in rows:
        text = " ".join(f"{question(row)}\n{reply(row)}".lower().split())
        key = hashlib.sha256(text.encode()).digest()
        reasons.append("duplicate" if key in seen else None)
        seen.add(key)
    return reasons


def best(rows: list[Row], *, per_prompt: int) -> Reasons:
    """Of a prompt's answers the best stay: those met without an edit first, then the longer ones."""
    ranked: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        ranked.setdefault(row["id"], []).append(index)
    kept: set[int] = set()
    for group in ranked.values():
        order = sorted(group, key=lambda index: (rows[index]["edited"], -len(WORD.findall(reply(rows[index]))), index))
        kept.update(order[:per_prompt])
    return [None if index in kept else "not the best of its prompt" for index in range(len(rows))]


def decontaminate(rows: list[Row], *, ngram: int, benchmarks: dict[str, list[Row]]) -> Reasons:
    """No run of `ngram` words, case and punctuation aside, stands in a benchmark's rows."""
    known: dict[tuple[str, ...], str] = {}
    for name, tests in benchmarks.items():
        for text in texts(tests):
            for run in _runs(text, ngram):
                known.setdefault(run, name)
    return [_overlap(f"{question(row)}\n{reply(row)}", ngram, known) for row in rows]


def _overlap(text: str, ngram: int, known: dict[tuple[str, ...], str]) -> str | None:
    for run in _runs(text, ngram):
        if run in known:
            return f"in {known[run]}: {' '.join(run)}"
    return None


def _runs(text: str, ngram: int) -> Iterable[tuple[str, ...]]:
    words = WORD.findall(text.lower())
    return (tuple(words[start : start + ngram]) for start in range(len(words) - ngram + 1))


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
