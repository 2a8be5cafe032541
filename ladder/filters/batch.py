"""Several rows as arrays: their texts cut into words, and the words hashed, once for all filters that read them."""

from collections.abc import Callable, Hashable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ladder.data.jsonl import Row
from ladder.data.turns import Part, reasons, said, saying
from ladder.data.wording import messages, replying
from ladder.filters.gopher import lines
from ladder.filters.shingles import WORD_CHARACTERS, Characters, Cut, Hashes, cut, recurring, runs

ROWS = 128
"""Of a batch at most."""
MOST_CHARACTERS = 1 << 20
"""Of a batch that is made into arrays: they take 50 times that in bytes."""
Words = tuple[Hashes, NDArray[np.int64]]
"""Hashes of the words of all rows, [words], and how many each row has, [rows]."""
Recurring = tuple[NDArray[np.int64], NDArray[np.int64]]
_NOT_BLANK = Characters(lambda point: not point.isspace())


class Batch:
    """The texts of several rows as the filters read them."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows
        turns = [messages(row) for row in rows]
        self.texts = [turn["content"] for several in turns for turn in several]
        self.turns = np.array([len(several) for several in turns], np.int64)
        """How many of `texts` each row has, [rows]."""
        self._made: dict[Hashable, Any] = {}

    @property
    def large(self) -> bool:
        """Too large for arrays."""
        return sum(map(len, self.texts)) > MOST_CHARACTERS

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` made when the key was first asked for."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    @cached_property
    def answers(self) -> list[str]:
        return [said(row, "completion") for row in self.rows]

    @cached_property
    def reasoning(self) -> NDArray[np.bool_]:
        """Which rows have an answer with reasoning, [rows]."""
        return np.array([reasons(row) for row in self.rows], np.bool_)

    @cached_property
    def lines(self) -> list[tuple[str, ...]]:
        return [lines(text) for text in self.answers]

    @cached_property
    def turn_words(self) -> Cut:
        """Of every turn, as ladder/data/wording.py has them: in lower case, punctuation aside."""
        return cut(self.texts, WORD_CHARACTERS, lower=True)

    def words(self, part: Part) -> Words:
        """Those of a part of each row (ladder/data/turns.py)."""
        found: Words = self.once(part, lambda: self._words_of([saying(row, part) for row in self.rows]))
        return found

    @cached_property
    def reply_words(self) -> Words:
        """Those of what ladder/filters/basic.py takes for the reply."""
        return self._words_of([replying(row) for row in self.rows])

    def _words_of(self, wanted: list[list[bool]]) -> Words:
        chosen = np.array([one for several in wanted for one in several], np.bool_)
        counts = self.turn_words.counts
        return self.turn_words.hashes[np.repeat(chosen, counts)], summed(counts * chosen, self.turns)

    @cached_property
    def parts(self) -> Cut:
        """Of the answers, as ladder/filters/gopher.py has them: what blanks part."""
        return cut(self.answers, _NOT_BLANK)

    @cached_property
    def letters(self) -> NDArray[np.int64]:
        """Characters of all parts, [rows]."""
        return summed(self.parts.ends - self.parts.starts, self.parts.counts)

    @cached_property
    def longest(self) -> NDArray[np.int64]:
        """Characters of the longest part, [rows]."""
        parts, longest = self.parts, np.zeros(len(self.rows), np.int64)
        some = parts.counts > 0
        if some.any():
            firsts = (np.cumsum(parts.counts) - parts.counts)[some]
            longest[some] = np.maximum.reduceat(parts.ends - parts.starts, firsts)
        return longest

    def recurring_at_most(self, size: int) -> Recurring:
        """([rows], [rows]): of an answer's runs of `size` parts, how many stood before, how often the commonest stands;
        as far as it was counted already, or no more than that: longer runs do not recur more often than shorter."""
        counted = [shorter for shorter in range(size, 0, -1) if ("recurring", shorter) in self._made]
        found: Recurring = self._made["recurring", counted[0]] if counted else (self.parts.counts, self.parts.counts)
        return found

    def recurring(self, size: int, rows: NDArray[np.bool_]) -> Recurring:
        """The same, counted for these rows."""
        again, commonest = (times.copy() for times in self.recurring_at_most(size))
        hashes, counts = self.parts.hashes, self.parts.counts
        again[rows], commonest[rows] = recurring(*runs(hashes[np.repeat(rows, counts)], counts[rows], size))
        self._made["recurring", size] = again, commonest
        return again, commonest

    def without(self, *marks: str) -> NDArray[np.bool_]:
        """Which answers have none of them."""
        if not any(mark in self.parts.joined for mark in marks):
            return np.ones(len(self.rows), np.bool_)
        return np.array([not any(mark in text for mark in marks) for text in self.answers])

    def share(self, times: NDArray[np.int64], size: int) -> NDArray[np.float64]:
        """Of an answer's characters the most that `times` runs of `size` parts can have, [rows]."""
        most: NDArray[np.float64] = times * size * self.longest / np.maximum(1, self.letters)
        return most


def summed(values: NDArray[np.bool_] | NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sums of the first counts[0] values, of the next counts[1] ..., [counts]."""
    sums = np.append(0, np.cumsum(values, dtype=np.int64))
    ends = np.cumsum(counts)
    found: NDArray[np.int64] = sums[ends] - sums[ends - counts]
    return found
