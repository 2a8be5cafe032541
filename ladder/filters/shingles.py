"""Shingle sets of texts and their MinHash signatures, vectorized over batches.

A shingle is a run of `ngram` words or characters (Broder 1997, "On the resemblance and containment of documents"). The
hash of a word is a polynomial over its code points, the hash of a shingle a polynomial over its word hashes. Both are
modulo 2**64 and mixed afterwards. A text becomes a set of 64-bit numbers. The probability of any collision among a
million is 3e-8.
"""

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Unit = Literal["words", "characters"]

CHARACTERS = 1 << 18
"""Characters per batch, so that its arrays fit a core's cache."""
_PIECE = re.compile(rf"(?s:.{{1,{CHARACTERS}}})\w*")
_SLOT_BITS = 18
_BASE, _SHINGLE_BASE = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93


def minhash(
    shingles: Hashes, counts: NDArray[np.int64], factors: NDArray[np.uint32], shifts: NDArray[np.uint32]
) -> NDArray[np.uint32]:
    """MinHash signatures [texts with at least one shingle, permutations].

    Each value is the minimum of factor * h + shift modulo 2**32 over a text's shingles; h is the upper 32 bits of the
    hash.
    """
    starts = np.cumsum(counts[counts > 0]) - counts[counts > 0]
    hashes = (shingles >> np.uint64(32)).astype(np.uint32)
    permuted = np.empty_like(hashes)
    signatures = np.empty((len(factors), len(starts)), np.uint32)
    if len(starts):
        for index, (factor, shift) in enumerate(zip(factors, shifts, strict=True)):
            np.multiply(hashes, factor, out=permuted)
            np.add(permuted, shift, out=permuted)
            np.minimum.reduceat(permuted, starts, out=signatures[index])
    return signatures.T


def shingle_sets(texts: list[str], ngram: int, unit: Unit) -> list[Hashes]:
    """Sorted set of shingle hashes of each text."""
    shingles, counts = shingle(texts, ngram, unit)
    return [np.unique(part) for part in np.split(shingles, np.cumsum(counts)[:-1])] if texts else []


def shingle(texts: list[str], ngram: int, unit: Unit) -> tuple[Hashes, NDArray[np.int64]]:
    """Shingle hashes of all texts in order, with repeats, [shingles], and their number per text, [texts]."""
    return runs(*(_words(texts) if unit == "words" else _characters(texts)), ngram)


def runs(parts: Hashes, counts: NDArray[np.int64], ngram: int) -> tuple[Hashes, NDArray[np.int64]]:
    """N-gram hashes of hashed parts, in order and with repeats, [n-grams], and their number per text, [texts].

    parts: hashes of words or characters, [parts]. counts: parts per text, [texts]. A text with fewer than `ngram` parts
    has one n-gram; an empty text has none.
    """
    # A gap of ngram - 1 zeros after each text, so that a window never extends into the next text.
    offsets = np.cumsum(counts) - counts
    spread = offsets + (ngram - 1) * np.arange(len(counts))
    padded = np.zeros(int(counts.sum()) + (ngram - 1) * (len(counts) + 1), np.uint64)
    padded[np.arange(len(parts)) + np.repeat(spread - offsets, counts)] = parts
    numbers = np.where(counts >= ngram, counts - ngram + 1, np.minimum(counts, 1))
    first = np.cumsum(numbers) - numbers
    places = np.arange(int(numbers.sum())) + np.repeat(spread - first, numbers)
    return mix(windows(padded, ngram)[places]), numbers


def windows(parts: Hashes, ngram: int) -> Hashes:
    """Unmixed n-gram hashes at every position of one text with at least `ngram` parts."""
    found = np.zeros(len(parts) - ngram + 1, np.uint64)
    for place in range(ngram):
        found += parts[place : place + len(found)] * _power(place)
    return found


def runs_at(parts: Hashes, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Hashes:
    """N-gram hashes at given positions: `lengths` parts from each of `starts`, both [n-grams]. Returns [n-grams]."""
    found = np.zeros(len(starts), np.uint64)
    for place in range(lengths.max(initial=0)):
        inside = lengths > place
        found += parts[np.where(inside, starts + place, 0)] * (inside * _power(place))
    return mix(found)


@functools.cache
def _power(place: int) -> np.uint64:
    return np.uint64(pow(_SHINGLE_BASE, place, 1 << 64))


def _words(texts: list[str]) -> tuple[Hashes, NDArray[np.int64]]:
    if sum(map(len, texts)) <= 4 * CHARACTERS:
        found = cut(texts, WORD_CHARACTERS, lower=True)
        return found.hashes, found.counts
    # A text longer than a batch is hashed in pieces that end at word boundaries.
    pieces = [[cut([piece], WORD_CHARACTERS).hashes for piece in _PIECE.findall(text.lower())] for text in texts]
    counts = [sum(map(len, hashes)) for hashes in pieces]
    return np.concatenate([hashes for several in pieces for hashes in several]), np.array(counts, np.int64)


def recurring(hashes: Hashes, counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count repeated hashes per text.

    Returns ([texts], [texts]): how many hashes occurred earlier in the same text, and how often the most frequent
    occurs.
    """
    places = np.arange(len(hashes), dtype=np.uint32)
    texts = np.repeat(np.arange(len(counts)), counts)
    keys = hashes ^ np.repeat(np.arange(len(counts), dtype=np.uint64) * np.uint64(_BASE), counts)
    slots = _first_bits(keys, _SLOT_BITS)
    last = _slots()
    last[slots] = places
    # A contested slot holds all equal hashes, and few others.
    contested = last[slots] != places
    contested[last[slots[contested]]] = True
    keys, texts = keys[contested], texts[contested]
    order = np.argsort(keys)
    keys, texts = keys[order], texts[order]
    firsts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: len(keys)])
    times = np.diff(firsts, append=len(keys))
    again = np.bincount(texts[firsts], times - 1, len(counts)).astype(np.int64)
    commonest = np.minimum(counts, 1)
    np.maximum.at(commonest, texts[firsts], times)
    return again, commonest


class HashSet:
    """Set of hashes with a bit table for fast negative lookups.

    The table is indexed by the leading bits of a hash. At most one in 16 of its bits is set. Hashes that pass are
    looked up by binary search.
    """

    def __init__(self, hashes: Hashes) -> None:
        self.hashes = np.unique(hashes)
        bits = max(8, (16 * len(self.hashes)).bit_length())
        self._bits = bits
        taken = np.zeros(1 << bits, np.bool_)
        taken[_first_bits(self.hashes, bits)] = True
        self._taken = np.packbits(taken, bitorder="little")

    def has(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Membership of each hash, [hashes]."""
        bits = _first_bits(hashes, self._bits)
        found: NDArray[np.bool_] = (self._taken[bits >> 3] >> (bits & 7).astype(np.uint8) & 1).view(np.bool_)
        likely = hashes[found]
        if len(likely):
            places = np.minimum(self.hashes.searchsorted(likely), len(self.hashes) - 1)
            found[found] = self.hashes[places] == likely
        return found


class Characters:
    """Set of characters as a lookup table over code points."""

    def __init__(self, holds: Callable[[str], bool]) -> None:
        self._holds = holds
        self._ascii = bytes(holds(chr(point)) for point in range(256))

    @functools.cached_property
    def _all(self) -> NDArray[np.bool_]:
        return np.fromiter(map(self._holds, map(chr, range(0x110000))), np.bool_, 0x110000)

    def among(self, text: str) -> NDArray[np.bool_]:
        """Membership of each character of a text, [characters]."""
        if text.isascii():
            return np.frombuffer(text.encode().translate(self._ascii), np.bool_)
        return self._all[_points(text)]


WORD_CHARACTERS = Characters(lambda point: point.isalnum() or point == "_")
"""The characters matched by \\w."""


@dataclass(frozen=True)
class Cut:
    """Words of several texts, concatenated."""

    joined: str
    """The texts, joined by line breaks."""
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    """Start and end offsets of each word in `joined`, [words]."""
    hashes: Hashes
    counts: NDArray[np.int64]
    """Number of words of each text, [texts]."""


def cut(texts: Sequence[str], inside: Characters, *, lower: bool = False) -> Cut:
    """Split texts into words: maximal runs of the characters `inside`, which must not contain the line break."""
    joined = "\n".join(texts)
    if lower and joined.isascii():
        joined = joined.lower()
    elif lower:  # lowercase of other scripts may change the length of a text
        texts = [text.lower() for text in texts]
        joined = "\n".join(texts)
    edges = np.flatnonzero(np.diff(inside.among(joined), prepend=False, append=False))
    starts, ends = edges[::2], edges[1::2]
    values = _points(joined).astype(np.uint64)
    powers, inverses = _powers(1 << max(18, len(values).bit_length()))
    values += np.uint64(1)
    values *= powers[: len(values)]
    sums = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values, out=sums[1:])
    hashes = mix((sums[ends] - sums[starts]) * inverses[starts])
    text_ends = np.cumsum([len(text) + 1 for text in texts])
    return Cut(joined, starts, ends, hashes, np.diff(np.searchsorted(starts, text_ends), prepend=0))


def _characters(texts: list[str]) -> tuple[Hashes, NDArray[np.int64]]:
    plain = [" ".join(text.lower().split()) for text in texts]
    points = _points("".join(plain)).astype(np.uint64)
    return mix(points + np.uint64(1)), np.array([len(text) for text in plain], np.int64)


def _points(text: str) -> NDArray[np.uint8] | NDArray[np.uint32]:
    if text.isascii():
        return np.frombuffer(text.encode(), np.uint8)
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), np.uint32)


def _first_bits(hashes: Hashes, number: int) -> NDArray[np.int64]:
    return (hashes >> np.uint64(64 - number)).view(np.int64)  # int64 indices need no copy in a lookup


@functools.cache
def _slots() -> NDArray[np.uint32]:
    """Scratch array of positions by hash prefix. Old contents do not matter."""
    return np.zeros(1 << _SLOT_BITS, np.uint32)


@functools.lru_cache(maxsize=2)
def _powers(number: int) -> tuple[Hashes, Hashes]:
    """The first `number` powers of _BASE and of its inverse, modulo 2**64."""
    inverse = pow(_BASE, -1, 1 << 64)
    each = (np.full(number, base, np.uint64) for base in (_BASE, inverse))
    return tuple(np.concatenate([[np.uint64(1)], np.cumprod(base[1:])]) for base in each)  # type: ignore[return-value]


def mix(values: Hashes) -> Hashes:
    """splitmix64's finalizer (Steele, Lea, Flood 2014): a bijection whose outputs look random."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Hashes = values ^ (values >> np.uint64(31))
    return mixed
