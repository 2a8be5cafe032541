"""Batch of rows as arrays: texts split into words and hashed once, shared by all filters that read them."""

from collections.abc import Callable, Hashable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ladder.data.jsonl import Row
from ladder.data.turns import Part, messages, reasons, said, saying
from ladder.filters.gopher import lines
from ladder.filters.shingles import WORD_CHARACTERS, Characters, Cut, Hashes, cut, recurring, runs

ROWS = 128
"""Maximum number of rows per batch."""
MAX_CHARACTERS = 1 << 20
"""Maximum number of characters for conversion to arrays, which take 50 bytes per character."""
Words = tuple[Hashes, NDArray[np.int64]]
"""Word hashes of all rows, [words], and the number of words per row, [rows]."""
Recurring = tuple[NDArray[np.int64], NDArray[np.int64]]
_NOT_BLANK = Characters(lambda point: not point.isspace())


class Batch:
    """Texts of several rows with lazily computed, cached arrays."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows
        turns = [messages(row) for row in rows]
        self.texts = [turn["content"] for several in turns for turn in several]
        self.turns = np.array([len(several) for several in turns], np.int64)
        """Number of `texts` per row, [rows]."""
        self._made: dict[Hashable, Any] = {}

    @property
    def large(self) -> bool:
        """Whether the batch is too large for arrays."""
        return sum(map(len, self.texts)) > MAX_CHARACTERS

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Result of `make`, computed once per key."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    @cached_property
    def answers(self) -> list[str]:
        return [said(row, "completion") for row in self.rows]

    @cached_property
    def reasoning(self) -> NDArray[np.bool_]:
        """Whether a row's answer has reasoning, [rows]."""
        return np.array([reasons(row) for row in self.rows], np.bool_)

    @cached_property
    def lines(self) -> list[tuple[str, ...]]:
        return [lines(text) for text in self.answers]

    @cached_property
    def turn_words(self) -> Cut:
        """Words of every turn as in ladder/data/wording.py: lowercase, without punctuation."""
        return cut(self.texts, WORD_CHARACTERS, lower=True)

    def words(self, part: Part) -> Words:
        """Words of one part of each row (ladder/data/turns.py)."""
        found: Words = self.once(part, lambda: self._words_of([saying(row, part) for row in self.rows]))
        return found

    def _words_of(self, wanted: list[list[bool]]) -> Words:
        chosen = np.array([one for several in wanted for one in several], np.bool_)
        counts = self.turn_words.counts
        return self.turn_words.hashes[np.repeat(chosen, counts)], summed(counts * chosen, self.turns)

    @cached_property
    def parts(self) -> Cut:
        """Whitespace-separated words of the answers, as in ladder/filters/gopher.py."""
        return cut(self.answers, _NOT_BLANK)

    @cached_property
    def letters(self) -> NDArray[np.int64]:
        """Number of characters in whitespace-separated words of each answer, [rows]."""
        return summed(self.parts.ends - self.parts.starts, self.parts.counts)

    @cached_property
    def longest(self) -> NDArray[np.int64]:
        """Length in characters of the longest whitespace-separated word of each answer, [rows]."""
        parts, longest = self.parts, np.zeros(len(self.rows), np.int64)
        some = parts.counts > 0
        if some.any():
            firsts = (np.cumsum(parts.counts) - parts.counts)[some]
            longest[some] = np.maximum.reduceat(parts.ends - parts.starts, firsts)
        return longest

    def recurring_at_most(self, size: int) -> Recurring:
        """Upper bounds for `recurring`, without computing it: ([rows], [rows]).

        The bounds are the counts for the longest n-gram size up to `size` that was computed, because longer n-grams do
        not recur more often than shorter ones. Without any, they are the numbers of words.
        """
        counted = [shorter for shorter in range(size, 0, -1) if ("recurring", shorter) in self._made]
        found: Recurring = self._made["recurring", counted[0]] if counted else (self.parts.counts, self.parts.counts)
        return found

    def recurring(self, size: int, rows: NDArray[np.bool_]) -> Recurring:
        """Repeated n-grams of `size` whitespace-separated words per answer: ([rows], [rows]).

        The first array counts n-grams that occurred earlier in the answer. The second is the frequency of the most
        frequent n-gram. Both are exact for the selected rows (`rows`, boolean [rows]) and upper bounds for the others.
        """
        again, commonest = (times.copy() for times in self.recurring_at_most(size))
        hashes, counts = self.parts.hashes, self.parts.counts
        again[rows], commonest[rows] = recurring(*runs(hashes[np.repeat(rows, counts)], counts[rows], size))
        self._made["recurring", size] = again, commonest
        return again, commonest

    def without(self, *marks: str) -> NDArray[np.bool_]:
        """Whether an answer contains none of the marks, [rows]."""
        if not any(mark in self.parts.joined for mark in marks):
            return np.ones(len(self.rows), np.bool_)
        return np.array([not any(mark in text for mark in marks) for text in self.answers])

    def share(self, times: NDArray[np.int64], size: int) -> NDArray[np.float64]:
        """Upper bound of the share of an answer's characters inside `times` n-grams of `size` words, [rows]."""
        most: NDArray[np.float64] = times * size * self.longest / np.maximum(1, self.letters)
        return most


def summed(values: NDArray[np.bool_] | NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Segment sums: the sum of the first counts[0] values, of the next counts[1] values, and so on, [counts]."""
    sums = np.append(0, np.cumsum(values, dtype=np.int64))
    ends = np.cumsum(counts)
    found: NDArray[np.int64] = sums[ends] - sums[ends - counts]
    return found
