"""Which rows of a batch a filter surely keeps, told for all of them at once.

Most rows are kept by most filters, and that is quick to see on arrays of hashes: two words, or two runs of words, that
have different hashes differ. A screen has the name and the parameters of a filter that sees one row; a row that it
says True of is one to which that filter gives no reason, so that only the others are read word by word, by the filter
itself. Equal hashes of different words (3e-8 for any two of a million) are no matter: such a row is read.
"""

from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from ladder.decontamination import COMMON, Benchmarks
from ladder.heuristics import STOP_WORDS, TELLING
from ladder.refusals import DECLINING, Verdict
from ladder.rows import Row
from ladder.shingles import WORD_CHARACTERS, Characters, Cut, Hashes, cut, runs, shingle
from ladder.turns import said
from ladder.wording import messages, reply

__all__ = [
    "alphabetic",
    "boilerplate",
    "decontaminate",
    "duplicate_ngrams",
    "length",
    "refusal",
    "repetition",
    "stop_words",
    "symbols",
    "top_ngrams",
    "word_length",
]

Kept = NDArray[np.bool_]
"""Shape [rows]: whether the filter surely keeps it."""
_NOT_BLANK = Characters(lambda point: not point.isspace())
_LETTERS = Characters(str.isalpha)
ROWS = 256
"""Of a batch at most: a text's place in it is 8 bits of what is sorted."""


class Batch:
    """The texts of several rows as the filters read them, cut into words once for all of them."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows

    @cached_property
    def turns(self) -> list[list[str]]:
        return [[turn["content"] for turn in messages(row)] for row in self.rows]

    @cached_property
    def answers(self) -> list[str]:
        return [said(row, "completion") for row in self.rows]

    @cached_property
    def words(self) -> Cut:
        """As ladder/wording.py has them: in lower case, punctuation aside."""
        return cut([text.lower() for text in self.answers], WORD_CHARACTERS)

    @cached_property
    def reply_words(self) -> Cut:
        """Those of the filters in ladder/filters.py, which read every message of a completion."""
        replies = [reply(row) for row in self.rows]
        return self.words if replies == self.answers else cut([text.lower() for text in replies], WORD_CHARACTERS)

    @cached_property
    def parts(self) -> Cut:
        """As ladder/heuristics.py has them: what blanks part."""
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

    def recurring(self, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """([rows], [rows]): how many runs of `size` parts stood before, and how often the commonest run stands."""
        return _recurring(*runs(self.parts.hashes, self.parts.counts, size))


def length(batch: Batch, *, least: int, most: int) -> Kept:
    counts = batch.reply_words.counts
    return (counts >= least) & (counts <= most)


def repetition(batch: Batch, *, ngram: int, most: float) -> Kept:
    words = batch.reply_words
    again, _ = _recurring(*runs(words.hashes, words.counts, ngram))
    return again * ngram <= most * words.counts


def word_length(batch: Batch, *, least: float, most: float) -> Kept:
    mean = batch.letters / np.maximum(1, batch.parts.counts)
    return (mean >= least) & (mean <= most)


def symbols(batch: Batch, *, most: float) -> Kept:
    none = [not ("#" in text or "..." in text or "\u2026" in text) for text in batch.answers]
    return np.array(none) & (most >= 0)


def alphabetic(batch: Batch, *, least: float) -> Kept:
    parts = batch.parts
    letters = np.cumsum(np.append(False, _LETTERS.among(parts.joined)), dtype=np.int32)
    with_letter = _summed(letters[parts.ends] > letters[parts.starts], parts.counts)
    return with_letter / np.maximum(1, parts.counts) >= least


def stop_words(batch: Batch, *, least: int) -> Kept:
    if least <= 0:
        return np.ones(len(batch.rows), np.bool_)
    parts = batch.parts
    found = np.zeros(len(batch.rows), np.int64)
    for word in _table(STOP_WORDS).hashes:
        found += _summed(parts.hashes == word, parts.counts) > 0
    return found >= least


def top_ngrams(batch: Batch, *, most: dict[int, float]) -> Kept:
    kept = np.ones(len(batch.rows), np.bool_)
    for size in sorted(most):
        _, times = batch.recurring(size)
        several = times > 1
        if not several.any():
            break
        kept &= ~several | (times * size * batch.longest / np.maximum(1, batch.letters) <= most[size])
    return kept


def duplicate_ngrams(batch: Batch, *, most: dict[int, float]) -> Kept:
    kept = np.ones(len(batch.rows), np.bool_)
    for size in sorted(most):
        again, _ = batch.recurring(size)
        if not again.any():
            break
        kept &= (again == 0) | (again * size * batch.longest / np.maximum(1, batch.letters) <= most[size])
    return kept


def refusal(batch: Batch, *, reject: list[Verdict]) -> Kept:
    if not {"full_refusal", "partial_refusal"}.issuperset(reject):
        return np.zeros(len(batch.rows), np.bool_)
    plain = np.array(["_" not in text and "\u02bc" not in text for text in batch.answers])
    return plain & ~_any_of(batch.words, DECLINING)


def boilerplate(batch: Batch) -> Kept:
    return ~_any_of(batch.words, TELLING)


def decontaminate(
    batch: Batch, *, ngram: int, common: int = COMMON, covers: float = 0.0, benchmarks: Benchmarks
) -> Kept:
    hashes, counts = shingle([text for texts in batch.turns for text in texts], ngram, "words")
    known: _Table = benchmarks.once(("screen", ngram, common), lambda: _known(benchmarks, ngram, common))
    of_row = _summed(counts, np.array([len(texts) for texts in batch.turns]))
    return _summed(known.holds(hashes), of_row) == 0


class _Table:
    """A set of hashes. Before one is searched for it is looked up by its first bits, of which few are taken."""

    def __init__(self, hashes: Hashes, bits: int) -> None:
        self.hashes = np.unique(hashes)
        self._shift = np.uint64(64 - bits)
        self._taken = np.zeros(1 << bits, np.bool_)
        self._taken[self.hashes >> self._shift] = True

    def holds(self, hashes: Hashes) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = self._taken[hashes >> self._shift]
        likely = hashes[found]
        places = self.hashes.searchsorted(likely)
        places[places == len(self.hashes)] = 0
        found[found] = self.hashes[places] == likely if len(likely) else False
        return found


def _known(benchmarks: Benchmarks, ngram: int, common: int) -> _Table:
    """The runs of words that stand in benchmarks, and the texts that are shorter than a run."""
    texts = [" ".join(words) for _, words in benchmarks.index(ngram, common).texts]
    parts = [shingle(texts[start : start + ROWS], ngram, "words")[0] for start in range(0, len(texts), ROWS)]
    return _Table(np.concatenate([np.zeros(0, np.uint64), *parts]), 24)  # 16 MiB, of which a million runs take 6%


@lru_cache
def _table(words: frozenset[str]) -> _Table:
    return _Table(cut(sorted(words), WORD_CHARACTERS).hashes, 16)


def _any_of(words: Cut, wanted: frozenset[str]) -> NDArray[np.bool_]:
    return _summed(_table(wanted).holds(words.hashes), words.counts) > 0


def _summed(values: NDArray[np.bool_] | NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sum over the words of each text, [texts]."""
    sums = np.append(0, np.cumsum(values, dtype=np.int64))
    ends = np.cumsum(counts)
    summed: NDArray[np.int64] = sums[ends] - sums[ends - counts]
    return summed


def _recurring(hashes: Hashes, counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    texts = np.repeat(np.arange(len(counts), dtype=np.uint64), counts)
    keys = np.sort(texts << np.uint64(56) | hashes >> np.uint64(8))
    firsts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: len(keys)])
    times = np.diff(firsts, append=len(keys))
    of = (keys[firsts] >> np.uint64(56)).astype(np.int64)
    again = counts - np.bincount(of, minlength=len(counts))
    commonest = np.zeros(len(counts), np.int64)
    np.maximum.at(commonest, of, times)
    return again, commonest
