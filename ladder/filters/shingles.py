"""Texts as sets of shingles, and their MinHash signatures, whole batches at once.

A shingle is a run of `ngram` words or characters (Broder 1997, "On the resemblance and containment of documents").
A word is hashed as a polynomial over its code points, a shingle as one over its words, both modulo 2**64 and then
mixed, so that a set of shingles is a set of 64-bit numbers; that any two of a million collide has a chance of 3e-8.
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
"""Of a batch: what its arrays hold then fits a core's cache."""
_PIECE = re.compile(rf"(?s:.{{1,{CHARACTERS}}})\w*")
_SLOT_BITS = 18
_BASE, _SHINGLE_BASE = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93


def minhash(
    shingles: Hashes, counts: NDArray[np.int64], factors: NDArray[np.uint32], shifts: NDArray[np.uint32]
) -> NDArray[np.uint32]:
    """Signatures [texts that have a shingle, permutations]: the least of factor * h + shift over a text's shingles."""
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
    """The sorted set of each text's shingles."""
    shingles, counts = shingle(texts, ngram, unit)
    return [np.unique(part) for part in np.split(shingles, np.cumsum(counts)[:-1])] if texts else []


def shingle(texts: list[str], ngram: int, unit: Unit) -> tuple[Hashes, NDArray[np.int64]]:
    """The shingles of all texts, in order and with repeats, [shingles]; how many each text has, [texts]."""
    return runs(*(_words(texts) if unit == "words" else _characters(texts)), ngram)


def runs(parts: Hashes, counts: NDArray[np.int64], ngram: int) -> tuple[Hashes, NDArray[np.int64]]:
    """The same of parts already hashed, [parts], of which each text has `counts`, [texts]."""
    # A gap of ngram - 1 zeros after each text, so that a window never reads into the next.
    offsets = np.cumsum(counts) - counts
    spread = offsets + (ngram - 1) * np.arange(len(counts))
    padded = np.zeros(int(counts.sum()) + (ngram - 1) * (len(counts) + 1), np.uint64)
    padded[np.arange(len(parts)) + np.repeat(spread - offsets, counts)] = parts
    numbers = np.where(counts >= ngram, counts - ngram + 1, np.minimum(counts, 1))
    first = np.cumsum(numbers) - numbers
    places = np.arange(int(numbers.sum())) + np.repeat(spread - first, numbers)
    return mix(windows(padded, ngram)[places]), numbers


def windows(parts: Hashes, ngram: int) -> Hashes:
    """Every run of a text of at least `ngram` parts, before it is mixed."""
    found = np.zeros(len(parts) - ngram + 1, np.uint64)
    for place in range(ngram):
        found += parts[place : place + len(found)] * _power(place)
    return found


def runs_at(parts: Hashes, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Hashes:
    """The same of some runs only: of so many parts, from there on, [runs]."""
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
    # A text longer than a batch is hashed in pieces, none of which ends inside a word.
    pieces = [[cut([piece], WORD_CHARACTERS).hashes for piece in _PIECE.findall(text.lower())] for text in texts]
    counts = [sum(map(len, hashes)) for hashes in pieces]
    return np.concatenate([hashes for several in pieces for hashes in several]), np.array(counts, np.int64)


def recurring(hashes: Hashes, counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """([texts], [texts]): how many of a text's hashes stood in it before, and how often the commonest one stands."""
    places = np.arange(len(hashes), dtype=np.uint32)
    texts = np.repeat(np.arange(len(counts)), counts)
    keys = hashes ^ np.repeat(np.arange(len(counts), dtype=np.uint64) * np.uint64(_BASE), counts)
    slots = _first_bits(keys, _SLOT_BITS)
    last = _slots()
    last[slots] = places
    # A slot that more than one took holds all that are equal, and few others.
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
    """A set of hashes. Before one is searched for it is looked up by its first bits, of which one in 16 is taken."""

    def __init__(self, hashes: Hashes) -> None:
        self.hashes = np.unique(hashes)
        bits = max(8, (16 * len(self.hashes)).bit_length())
        self._bits = bits
        taken = np.zeros(1 << bits, np.bool_)
        taken[_first_bits(self.hashes, bits)] = True
        self._taken = np.packbits(taken, bitorder="little")

    def has(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Which of them it has, [hashes]."""
        bits = _first_bits(hashes, self._bits)
        found: NDArray[np.bool_] = (self._taken[bits >> 3] >> (bits & 7).astype(np.uint8) & 1).view(np.bool_)
        likely = hashes[found]
        if len(likely):
            places = np.minimum(self.hashes.searchsorted(likely), len(self.hashes) - 1)
            found[found] = self.hashes[places] == likely
        return found


class Characters:
    """A set of characters, as a table to look up those of a text."""

    def __init__(self, holds: Callable[[str], bool]) -> None:
        self._holds = holds
        self._ascii = bytes(holds(chr(point)) for point in range(256))

    @functools.cached_property
    def _all(self) -> NDArray[np.bool_]:
        return np.fromiter(map(self._holds, map(chr, range(0x110000))), np.bool_, 0x110000)

    def among(self, text: str) -> NDArray[np.bool_]:
        """For each character of a text whether it is one of them."""
        if text.isascii():
            return np.frombuffer(text.encode().translate(self._ascii), np.bool_)
        return self._all[_points(text)]


WORD_CHARACTERS = Characters(lambda point: point.isalnum() or point == "_")
"""The characters of \\w."""


@dataclass(frozen=True)
class Cut:
    """The words of several texts, one after the other."""

    joined: str
    """The texts, a line break between two."""
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    """Where each word stands in `joined`, [words]."""
    hashes: Hashes
    counts: NDArray[np.int64]
    """How many each text has, [texts]."""


def cut(texts: Sequence[str], inside: Characters, *, lower: bool = False) -> Cut:
    """Words are runs of characters `inside`, to which a line break does not belong."""
    joined = "\n".join(texts)
    if lower and joined.isascii():
        joined = joined.lower()
    elif lower:  # other characters may become two
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
    return (hashes >> np.uint64(64 - number)).view(np.int64)  # places of this type need no copy to be looked up


@functools.cache
def _slots() -> NDArray[np.uint32]:
    """Room to note a place by a hash; what was noted before is of no matter."""
    return np.zeros(1 << _SLOT_BITS, np.uint32)


@functools.lru_cache(maxsize=2)
def _powers(number: int) -> tuple[Hashes, Hashes]:
    """The first powers of _BASE and of its inverse, modulo 2**64."""
    inverse = pow(_BASE, -1, 1 << 64)
    each = (np.full(number, base, np.uint64) for base in (_BASE, inverse))
    return tuple(np.concatenate([[np.uint64(1)], np.cumprod(base[1:])]) for base in each)  # type: ignore[return-value]


def mix(values: Hashes) -> Hashes:
    """splitmix64's finalizer (Steele, Lea, Flood 2014): equal inputs stay equal, all others look random."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Hashes = values ^ (values >> np.uint64(31))
    return mixed
