"""Vectorized pre-filter: find rows that a filter is guaranteed to keep, for a whole batch at once.

Most filters keep most rows. Arrays of hashes show this quickly, because words or n-grams with different hashes are
different. A function here has the name and the parameters of a filter that sees one row. Where it returns True, the
filter keeps the row. The filter itself runs only on the other rows. A hash collision (probability 3e-8 for any pair in
a million words) is harmless: the row goes to the filter.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ladder.filters.batch import Batch, Words, summed
from ladder.filters.decontamination import COMMON, COVERS, Benchmarks, Index
from ladder.filters.gopher import STOP_WORDS, TELLING, ends_in_ellipsis, is_bullet
from ladder.filters.shingles import WORD_CHARACTERS, Characters, HashSet, cut, recurring, runs, runs_at
from ladder.verifiers.refusal import DECLINING, Verdict

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

Kept = NDArray[np.bool_]
"""Shape [rows]: whether the filter is guaranteed to keep the row."""
_LETTERS = Characters(str.isalpha)


def length(batch: Batch, *, min: int, max: int) -> Kept:
    _, counts = batch.words("completion")
    return (counts >= min) & (counts <= max)


def repetition(batch: Batch, *, ngram: int, max: float) -> Kept:
    again, _ = recurring(*runs(*batch.words("completion"), ngram))
    return again * ngram <= max * batch.words("completion")[1]


def word_length(batch: Batch, *, min: float, max: float) -> Kept:
    mean = batch.letters / np.maximum(1, batch.parts.counts)
    return (mean >= min) & (mean <= max)


def symbols(batch: Batch, *, max: float) -> Kept:
    return batch.without("#", "...", "\u2026") & (max >= 0)


def bullets(batch: Batch, *, max: float) -> Kept:
    return np.array([not any(map(is_bullet, several)) for several in batch.lines]) & (max >= 0)


def ellipses(batch: Batch, *, max: float) -> Kept:
    return np.array([not any(map(ends_in_ellipsis, several)) for several in batch.lines]) & (max >= 0)


def alphabetic(batch: Batch, *, min: float) -> Kept:
    parts = batch.parts
    letters = np.cumsum(np.append(False, _LETTERS.among(parts.joined)), dtype=np.int32)
    with_letter = summed(letters[parts.ends] > letters[parts.starts], parts.counts)
    return with_letter / np.maximum(1, parts.counts) >= min


def stop_words(batch: Batch, *, min: int) -> Kept:
    if min <= 0:
        return np.ones(len(batch.rows), np.bool_)
    parts, found = batch.parts, np.zeros(len(batch.rows), np.int64)
    for word in _set_of(STOP_WORDS).hashes:
        found += summed(parts.hashes == word, parts.counts) > 0
    return found >= min


def duplicate_lines(batch: Batch, *, max: float, max_characters: float) -> Kept:
    return np.array([len(set(several)) == len(several) for several in batch.lines])


def duplicate_paragraphs(batch: Batch, *, max: float, max_characters: float) -> Kept:
    return duplicate_lines(batch, max=max, max_characters=max_characters)  # equal paragraphs contain equal lines


def top_ngrams(batch: Batch, *, max: dict[int, float]) -> Kept:
    return _few_repeats(batch, max, which=1, none=1)


def duplicate_ngrams(batch: Batch, *, max: dict[int, float]) -> Kept:
    return _few_repeats(batch, max, which=0, none=0)


def _few_repeats(batch: Batch, limits: dict[int, float], *, which: int, none: int) -> Kept:
    """Rows whose repeated n-grams are too few to exceed the maximum share of the characters, for every n in `limits`.

    `which` selects one of the two counts of `Batch.recurring`. `none` is the value of that count without any repeat.
    """
    kept = np.ones(len(batch.rows), np.bool_)
    for size in sorted(limits):
        times = batch.recurring_at_most(size)[which]
        doubtful = kept & (times > none) & (batch.share(times, size) > limits[size])
        if doubtful.any():
            times = batch.recurring(size, doubtful)[which]
        kept &= (times <= none) | (batch.share(times, size) <= limits[size])
    return kept


def refusal(batch: Batch, *, reject: list[Verdict]) -> Kept:
    if not {"full_refusal", "partial_refusal"}.issuperset(reject):
        return np.zeros(len(batch.rows), np.bool_)
    return batch.without("_", "\u02bc") & ~_any_of(batch.words("completion"), DECLINING)


def boilerplate(batch: Batch) -> Kept:
    return ~_any_of(batch.words("completion"), TELLING)


def decontaminate(
    batch: Batch, *, ngram: int, common: int = COMMON, covers: float = COVERS, benchmarks: Benchmarks
) -> Kept:
    """Rows without any n-gram of a benchmark; `covers` is ignored, so the result is conservative."""
    known: _Known = benchmarks.once(("screen", ngram, common), lambda: _Known.of(benchmarks.index(ngram, common)))
    kept: Kept = batch.once(("decontaminate", ngram, common), lambda: known.absent(batch))
    return kept


@dataclass(frozen=True)
class _Known:
    """Hashed index of benchmark n-grams, with an index of shorter n-grams so that few need a lookup."""

    ngram: int
    part: int
    runs: HashSet
    """Hashes of the n-grams that mark a row, the first n-gram of every text, and texts shorter than `ngram` words."""
    parts: HashSet
    """Hashes of all n-grams of `part` words, and of the texts that are shorter."""

    @classmethod
    def of(cls, index: Index) -> "_Known":
        part, (hashes, counts) = index.ngram * 5 // 8 or 1, index.shingled(index.ngram)
        # A whole text marks a row too, even if all its n-grams are templates or it is shorter than one n-gram.
        firsts = hashes[(np.cumsum(counts) - counts)[counts > 0]]
        return cls(index.ngram, part, HashSet(np.concatenate([index.hashes, firsts])), HashSet(index.shingled(part)[0]))

    def absent(self, batch: Batch) -> Kept:
        """Rows that contain no indexed n-gram, shape [rows]."""
        hashes, counts = batch.turn_words.hashes, batch.turn_words.counts
        firsts = np.cumsum(counts) - counts
        # Every run of 8 words contains a 5-word run that starts at a multiple of 4.
        stride = self.ngram - self.part + 1
        numbers = np.where(counts >= self.part, (counts - self.part) // stride + 1, np.minimum(counts, 1))
        turns = np.repeat(np.arange(len(counts)), numbers)
        places = stride * (np.arange(len(turns)) - np.repeat(np.cumsum(numbers) - numbers, numbers))
        has = self.parts.has(runs_at(hashes, firsts[turns] + places, np.minimum(counts[turns], self.part)))
        # The n-grams that contain a matching part.
        turns, places = np.repeat(turns[has], stride), np.subtract.outer(places[has], np.arange(stride)).ravel()
        lengths = np.minimum(counts[turns], self.ngram)
        inside = (places >= 0) & (places + lengths <= counts[turns])
        turns, places, lengths = turns[inside], places[inside], lengths[inside]
        has = self.runs.has(runs_at(hashes, firsts[turns] + places, lengths))
        absent = np.ones(len(batch.rows), np.bool_)
        absent[np.repeat(np.arange(len(absent)), batch.turns)[turns[has]]] = False
        return absent


@lru_cache
def _set_of(words: frozenset[str]) -> HashSet:
    return HashSet(cut(sorted(words), WORD_CHARACTERS).hashes)


def _any_of(words: Words, wanted: frozenset[str]) -> NDArray[np.bool_]:
    hashes, counts = words
    return summed(_set_of(wanted).has(hashes), counts) > 0
