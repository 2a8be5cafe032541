"""Near-duplicate removal with MinHash LSH: keep the first of several similar rows.

A text is the set of its shingles (n-grams of `ngram` words or characters). The similarity of two texts is the Jaccard
similarity of their sets, |A & B| / |A | B| (Broder 1997, "On the resemblance and containment of documents"). Banded
MinHash signatures find the candidates (Indyk and Motwani 1998; Leskovec, Rajaraman, Ullman, "Mining of Massive
Datasets", section 3.4). The exact Jaccard similarity then decides, so LSH false positives remove no row. Lee et al.
2022 (arXiv:2107.06499) use 5-grams and a threshold of 0.8.

Signatures are computed where rows are read (ladder/filters/signatures.py). Only rows that share a band are read again,
and no row is held in memory. Memory per row: 8 bytes per band (160 bytes at a similarity of 0.8). Kept rows that share
a band also hold 8 bytes per shingle, until no later row shares a band with them.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ladder.data.jsonl import Row
from ladder.data.jsonl_stream import picked
from ladder.data.turns import Part, said
from ladder.filters import signatures
from ladder.filters.shingles import CHARACTERS, Hashes, Unit, shingle_sets
from ladder.pipeline.config import Size

BATCH = 256
COMPARED = 1024
"""Maximum number of sets compared at a time."""


def near_duplicates(
    rows: Iterable[Row], *, part: Part, jaccard: Annotated[float, Field(ge=0.1, le=1)], ngram: Size, unit: Unit
) -> Iterator[str | None]:
    """Reject a row whose Jaccard similarity to an earlier kept row is at least `jaccard`, over `ngram`-grams of `unit`.

    Words are lowercase runs of letters, digits and _ (the class \\w). For characters, text is lowercase and every run
    of whitespace is one space. A text shorter than `ngram` is one shingle. A text without shingles is kept.

    One changed word affects `ngram` shingles: 5 words suit answers and documents, 2 or 3 suit short questions. If very
    many rows are similar but below `jaccard` (one template, single words as shingles), each is compared with all of
    them; use a larger `ngram`.
    """
    sketch = partial(signatures.near_duplicates, part=part, jaccard=jaccard, ngram=ngram, unit=unit)
    sharing = _Sharing(signatures.sketched(rows, sketch))
    kept: dict[int, tuple[Hashes, str]] = {}  # by row number: shingles and name of kept rows that a later row may match
    number = 0
    for batch in batched(_sharers(rows, part, sharing)):
        wanted = sharing.shares[number : number + len(batch)].tolist()
        sets = iter(shingle_sets([text for (_, text), want in zip(batch, wanted, strict=True) if want], ngram, unit))
        for (name, _), want in zip(batch, wanted, strict=True):
            yield _verdict(number, name, next(sets), sharing, kept, jaccard) if want else None
            number += 1


def _sharers(rows: Iterable[Row], part: Part, sharing: "_Sharing") -> Iterator[tuple[str, str]]:
    """(name, text) of every row that shares a band, and ("", "") for the others."""
    for number, row in enumerate(picked(rows, sharing.shares.tolist()), start=1):
        yield ("", "") if row is None else (str(row.get("id", f"row {number}")), said(row, part))


def _verdict(
    number: int, name: str, own: Hashes, sharing: "_Sharing", kept: dict[int, tuple[Hashes, str]], least: float
) -> str | None:
    reason = _alike(own, sharing.earlier(number), kept, least)
    if reason is None:
        kept[number] = (own, name)
    for done in sharing.seen(number, stays=reason is None):
        del kept[done]
    return reason


def _alike(own: Hashes, earlier: list[int], kept: dict[int, tuple[Hashes, str]], least: float) -> str | None:
    for start in range(0, len(earlier), COMPARED):
        several = [kept[number] for number in earlier[start : start + COMPARED]]
        similarities = resemblances(own, [other for other, _ in several])
        found = np.flatnonzero(similarities >= least)
        if len(found):
            return f"Jaccard {similarities[found[0]]:.2f} with {several[found[0]][1]}"
    return None


def resemblances(own: Hashes, others: list[Hashes]) -> NDArray[np.float64]:
    """Jaccard similarity |A & B| / |A | B| of one sorted set with each of `others`, shape [others]; no set is empty."""
    sizes = np.array([len(other) for other in others])
    hashes = np.concatenate(others)
    places = own.searchsorted(hashes)
    places[places == len(own)] = 0
    shared = np.add.reduceat(own[places] == hashes, np.cumsum(sizes) - sizes, dtype=np.int64)
    similarities: NDArray[np.float64] = shared / (len(own) + sizes - shared)
    return similarities


class _Sharing:
    """Index of LSH buckets with several rows: the rows that share a band, and the kept rows in each bucket."""

    def __init__(self, keys: list[Hashes]) -> None:
        total = sum(map(len, keys))
        self.shares: NDArray[np.bool_] = np.zeros(total, np.bool_)
        rows, places = [np.zeros(0, np.uint32)], [np.zeros(0, np.uint32)]
        buckets = 0
        for band in range(keys[0].shape[1] if keys else 0):
            column = np.concatenate([part[:, band] for part in keys])
            order = np.argsort(column, kind="stable")
            starts = np.flatnonzero(np.append(True, column[order[1:]] != column[order[:-1]]))
            sizes = np.diff(np.append(starts, total))
            several = (sizes > 1) & (column[order[starts]] != 0)
            shared = order[np.repeat(several, sizes)].astype(np.uint32)
            numbers = buckets + np.arange(int(several.sum()), dtype=np.uint32)
            rows.append(shared)
            places.append(np.repeat(numbers, sizes[several]))
            self.shares[shared] = True
            buckets += len(numbers)
        self._rows, self._buckets = np.concatenate(rows), np.concatenate(places)
        order = np.argsort(self._rows, kind="stable")
        self._rows, self._buckets = self._rows[order], self._buckets[order]
        self._left = np.bincount(self._buckets, minlength=buckets)
        self._stay: dict[int, list[int]] = {}
        self._open: dict[int, int] = {}

    def _of(self, row: int) -> list[int]:
        start, end = self._rows.searchsorted(np.array([row, row + 1], np.uint32))
        buckets: list[int] = self._buckets[start:end].tolist()
        return buckets

    def earlier(self, row: int) -> list[int]:
        """Earlier kept rows that share a band with this row, in order."""
        return sorted({other for bucket in self._of(row) for other in self._stay.get(bucket, ())})

    def seen(self, row: int, *, stays: bool) -> list[int]:
        """Record whether a row is kept. Returns the kept rows that share no band with any later row."""
        done = []
        buckets = self._of(row)
        if stays:
            self._open[row] = len(buckets)
        for bucket in buckets:
            members = self._stay.setdefault(bucket, [])
            if stays:
                members.append(row)
            self._left[bucket] -= 1
            if self._left[bucket] == 0:
                for member in self._stay.pop(bucket):
                    self._open[member] -= 1
                    if self._open[member] == 0:
                        del self._open[member]
                        done.append(member)
        return done


def batched(named: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """Batches of (name, text) that fit a core's cache: at most BATCH rows, and about CHARACTERS characters."""
    batch: list[tuple[str, str]] = []
    size = 0
    for name, text in named:
        batch.append((name, text))
        size += len(text)
        if len(batch) == BATCH or size >= CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
