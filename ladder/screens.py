"""Which rows of a batch a filter surely keeps, told for all of them at once.

Most rows are kept by most filters, and that is quick to see on arrays of hashes: two words, or two runs of words, that
have different hashes differ. A screen has the name and the parameters of a filter that sees one row; a row that it
says True of is one to which that filter gives no reason, so that only the others are read word by word, by the filter
itself. Equal hashes of different words (3e-8 for any two of a million) are no matter: such a row is read.
"""

from collections.abc import Callable
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from ladder.decontamination import COMMON, Benchmarks
from ladder.heuristics import STOP_WORDS, TELLING, ends_in_ellipsis, is_bullet, lines
from ladder.refusals import DECLINING, Verdict
from ladder.rows import Row
from ladder.shingles import WORD_CHARACTERS, Characters, Cut, Hashes, HashSet, cut, recurring, runs, shingle
from ladder.turns import answering, said
from ladder.wording import messages, replying

__all__ = [
    "alphabetic",
    "boilerplate",
    "bullets",
    "decontaminate",
    "duplicate_lines",
    "duplicate_ngrams",
    "duplicate_paragraphs",
    "ellipses",
    "length",
    "refusal",
    "repetition",
    "stop_words",
    "symbols",
    "top_ngrams",
    "word_length",
]

ROWS = 128
"""Of a batch at most."""
Kept = NDArray[np.bool_]
"""Shape [rows]: whether the filter surely keeps it."""
Words = tuple[Hashes, NDArray[np.int64]]
"""Hashes of the words of all rows, [words], and how many each row has, [rows]."""
_NOT_BLANK = Characters(lambda point: not point.isspace())
_LETTERS = Characters(str.isalpha)


class Batch:
    """The texts of several rows as the filters read them, cut into words once for all of them."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows
        turns = [messages(row) for row in rows]
        self.texts = [turn["content"] for several in turns for turn in several]
        self.turns = np.array([len(several) for several in turns], np.int64)
        """How many of `texts` each row has, [rows]."""

    @cached_property
    def answers(self) -> list[str]:
        return [said(row, "completion") for row in self.rows]

    @cached_property
    def lines(self) -> list[tuple[str, ...]]:
        return [lines(text) for text in self.answers]

    @cached_property
    def turn_words(self) -> Cut:
        """Of every turn, as ladder/wording.py has them: in lower case, punctuation aside."""
        return cut([text.lower() for text in self.texts], WORD_CHARACTERS)

    @cached_property
    def answering(self) -> list[bool]:
        """Which of `texts` are answers."""
        return [one for row in self.rows for one in answering(row)]

    @cached_property
    def words(self) -> Words:
        """Those of what the assistant says."""
        return self._words_of(self.answering)

    @cached_property
    def reply_words(self) -> Words:
        """Those of what ladder/filters.py takes for the reply."""
        wanted = [one for row in self.rows for one in replying(row)]
        return self.words if wanted == self.answering else self._words_of(wanted)

    def _words_of(self, wanted: list[bool]) -> Words:
        counts, chosen = self.turn_words.counts, np.array(wanted, np.bool_)
        return self.turn_words.hashes[np.repeat(chosen, counts)], _summed(counts * chosen, self.turns)

    @cached_property
    def parts(self) -> Cut:
        """Of the answers, as ladder/heuristics.py has them: what blanks part."""
        return cut(self.answers, _NOT_BLANK)

    @cached_property
    def letters(self) -> NDArray[np.int64]:
        """Characters of all parts, [rows]."""
        return _summed(self.parts.ends - self.parts.starts, self.parts.counts)

    @cached_property
    def longest(self) -> NDArray[np.int64]:
        """Characters of the longest part, [rows]."""
        parts, longest = self.parts, np.zeros(len(self.rows), np.int64)
        some = parts.counts > 0
        if some.any():
            firsts = (np.cumsum(parts.counts) - parts.counts)[some]
            longest[some] = np.maximum.reduceat(parts.ends - parts.starts, firsts)
        return longest

    def without(self, *marks: str) -> Kept:
        """Which answers have none of them."""
        if not any(mark in self.parts.joined for mark in marks):
            return np.ones(len(self.rows), np.bool_)
        return np.array([not any(mark in text for mark in marks) for text in self.answers])

    def share(self, times: NDArray[np.int64], size: int) -> NDArray[np.float64]:
        """Of an answer's characters the most that `times` runs of `size` parts can have, [rows]."""
        most: NDArray[np.float64] = times * size * self.longest / np.maximum(1, self.letters)
        return most


def length(batch: Batch, *, least: int, most: int) -> Kept:
    _, counts = batch.reply_words
    return (counts >= least) & (counts <= most)


def repetition(batch: Batch, *, ngram: int, most: float) -> Kept:
    again, _ = recurring(*runs(*batch.reply_words, ngram))
    return again * ngram <= most * batch.reply_words[1]


def word_length(batch: Batch, *, least: float, most: float) -> Kept:
    mean = batch.letters / np.maximum(1, batch.parts.counts)
    return (mean >= least) & (mean <= most)


def symbols(batch: Batch, *, most: float) -> Kept:
    return batch.without("#", "...", "\u2026") & (most >= 0)


def bullets(batch: Batch, *, most: float) -> Kept:
    return np.array([not any(map(is_bullet, several)) for several in batch.lines]) & (most >= 0)


def ellipses(batch: Batch, *, most: float) -> Kept:
    return np.array([not any(map(ends_in_ellipsis, several)) for several in batch.lines]) & (most >= 0)


def alphabetic(batch: Batch, *, least: float) -> Kept:
    parts = batch.parts
    letters = np.cumsum(np.append(False, _LETTERS.among(parts.joined)), dtype=np.int32)
    with_letter = _summed(letters[parts.ends] > letters[parts.starts], parts.counts)
    return with_letter / np.maximum(1, parts.counts) >= least


def stop_words(batch: Batch, *, least: int) -> Kept:
    if least <= 0:
        return np.ones(len(batch.rows), np.bool_)
    parts, found = batch.parts, np.zeros(len(batch.rows), np.int64)
    for word in _set_of(STOP_WORDS).hashes:
        found += _summed(parts.hashes == word, parts.counts) > 0
    return found >= least


def duplicate_lines(batch: Batch, *, most: float, most_characters: float) -> Kept:
    return np.array([len(set(several)) == len(several) for several in batch.lines])


def duplicate_paragraphs(batch: Batch, *, most: float, most_characters: float) -> Kept:
    return duplicate_lines(batch, most=most, most_characters=most_characters)  # two that are equal have equal lines


def top_ngrams(batch: Batch, *, most: dict[int, float]) -> Kept:
    return _few_repeats(batch, most, lambda hashes, counts: recurring(hashes, counts)[1], 1)


def duplicate_ngrams(batch: Batch, *, most: dict[int, float]) -> Kept:
    return _few_repeats(batch, most, lambda hashes, counts: recurring(hashes, counts)[0], 0)


def _few_repeats(
    batch: Batch, most: dict[int, float], counted: Callable[[Hashes, NDArray[np.int64]], NDArray[np.int64]], none: int
) -> Kept:
    """Whether for each size the runs that `counted` counts are too few to have that share of the characters."""
    kept, times = np.ones(len(batch.rows), np.bool_), batch.parts.counts
    for size in sorted(most):
        # Longer runs do not recur more often than shorter ones.
        if ((times > none) & (batch.share(times, size) > most[size])).any():
            times = counted(*runs(batch.parts.hashes, batch.parts.counts, size))
        kept &= (times <= none) | (batch.share(times, size) <= most[size])
    return kept


def refusal(batch: Batch, *, reject: list[Verdict]) -> Kept:
    if not {"full_refusal", "partial_refusal"}.issuperset(reject):
        return np.zeros(len(batch.rows), np.bool_)
    return batch.without("_", "\u02bc") & ~_any_of(batch.words, DECLINING)


def boilerplate(batch: Batch) -> Kept:
    return ~_any_of(batch.words, TELLING)


def decontaminate(
    batch: Batch, *, ngram: int, common: int = COMMON, covers: float = 0.0, benchmarks: Benchmarks
) -> Kept:
    known: HashSet = benchmarks.once(("screen", ngram, common), lambda: _known(benchmarks, ngram, common))
    hashes, counts = runs(batch.turn_words.hashes, batch.turn_words.counts, ngram)
    return _summed(known.has(hashes), _summed(counts, batch.turns)) == 0


def _known(benchmarks: Benchmarks, ngram: int, common: int) -> HashSet:
    """The runs of words that stand in benchmarks, and the texts that are shorter than a run."""
    texts = [" ".join(words) for _, words in benchmarks.index(ngram, common).texts]
    parts = [shingle(texts[start : start + ROWS], ngram, "words")[0] for start in range(0, len(texts), ROWS)]
    return HashSet(np.concatenate([np.zeros(0, np.uint64), *parts]))


@lru_cache
def _set_of(words: frozenset[str]) -> HashSet:
    return HashSet(cut(sorted(words), WORD_CHARACTERS).hashes)


def _any_of(words: Words, wanted: frozenset[str]) -> NDArray[np.bool_]:
    hashes, counts = words
    return _summed(_set_of(wanted).has(hashes), counts) > 0


def _summed(values: NDArray[np.bool_] | NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sums of the first counts[0] values, of the next counts[1] ..., [counts]."""
    sums = np.append(0, np.cumsum(values, dtype=np.int64))
    ends = np.cumsum(counts)
    summed: NDArray[np.int64] = sums[ends] - sums[ends - counts]
    return summed
