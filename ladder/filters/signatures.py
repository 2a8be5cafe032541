"""Per-row sketches for filters that see all rows, computed once where the row is read, on any machine.

A sketch function has the name and the parameters of a filter that sees all rows. It maps a batch to an array [rows,
numbers]. The filter decides from the sketches of all rows and reads only the rows that it needs.
"""

import functools
import hashlib
import itertools
import math
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from ladder.data.jsonl import Row
from ladder.data.jsonl_stream import Rows
from ladder.data.turns import COLUMNS, Part, said, with_reasoning
from ladder.filters.batch import ROWS, Batch
from ladder.filters.shingles import Hashes, Unit, minhash, mix, runs, shingle
from ladder.pipeline.stage import UserError

__all__ = ["exact", "near_duplicates"]

RECALL = 0.9995
"""Minimum probability that two texts with a similarity at the threshold share a band."""
MOST_PERMUTATIONS = 128
ANSWERS = ("chosen", "rejected")


def sketched(rows: Iterable[Row], sketch: Callable[[Batch], Hashes]) -> list[Hashes]:
    """Sketches of all rows in order, as a list of arrays; computed here unless an earlier pass stored them."""
    if isinstance(rows, Rows) and rows.sketches is not None:
        return [part for part in rows.sketches if len(part)]
    left, made = iter(rows), []
    while batch := list(itertools.islice(left, ROWS)):
        made.append(sketch(Batch(batch)))
    return made


def exact(batch: Batch) -> Hashes:
    """Exact-duplicate key, shape [rows, 2]: 16 bytes of sha256 over roles and texts, ignoring case and whitespace."""
    digests = (hashlib.sha256(_one_spaced(_canonical(row).lower())).digest()[:16] for row in batch.rows)
    return np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2)


def _canonical(row: Row) -> str:
    """Canonical text of a row for exact deduplication.

    It contains the role and text of every message, with the answers of a pair marked. NUL separates the parts and is
    escaped inside texts. Rows that differ in reasoning, in which turns are trained, or in their label are not
    duplicates.
    """
    parts = [
        f"{name if name in ANSWERS else ''}\0{_speaker(message)}\0{_escaped(message['content'].strip())}"
        for name in COLUMNS
        if name in row
        for message in with_reasoning(row[name])
    ]
    if "completion" in row and isinstance(row.get("label"), bool):
        parts.append(f"\0label\0{row['label']}")
    return "\0".join(parts)


def _speaker(message: Row) -> str:
    return f"{message['role']} untrained" if message.get("train") is False else str(message["role"])


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\0", "\\0")


def _one_spaced(text: str) -> bytes:
    """UTF-8 bytes with each run of whitespace as one space and none at the ends."""
    if text.isascii() and b"  " not in (spaced := text.encode().translate(_SPACES)):  # fast path, same result
        return spaced.strip(b" ")
    return " ".join(text.split()).encode("utf-8", "surrogatepass")


_SPACES = bytes(ord(" ") if chr(code).isspace() else code for code in range(256))


def near_duplicates(batch: Batch, *, part: Part, jaccard: float, ngram: int, unit: Unit) -> Hashes:
    """LSH keys, shape [rows, bands]: one number per band of the MinHash signature, 0 for a text without shingles.

    Errors: UserError for `jaccard` outside 0.1 to 1, or `ngram` below 1.
    """
    if not 0.1 <= jaccard <= 1 or ngram < 1:
        raise UserError(f"near_duplicates: expected jaccard of 0.1 to 1 and ngram of 1 or more, got {jaccard}, {ngram}")
    if batch.large:  # one text at a time, to limit memory
        return np.concatenate([_keys(*shingle([said(row, part)], ngram, unit), jaccard) for row in batch.rows])
    if unit == "words":
        return _keys(*runs(*batch.words(part), ngram), jaccard)
    return _keys(*shingle([said(row, part) for row in batch.rows], ngram, unit), jaccard)


def _keys(shingles: Hashes, counts: NDArray[np.int64], jaccard: float) -> Hashes:
    number, width = bands(jaccard)
    factors, shifts, weights = _drawn(number, width)
    signatures = minhash(shingles, counts, factors, shifts).astype(np.uint64).reshape(-1, number, width)
    keys = np.zeros((len(counts), number), np.uint64)
    keys[counts > 0] = mix((signatures * weights).sum(axis=2, dtype=np.uint64)) | np.uint64(1)
    return keys


@functools.lru_cache(maxsize=4)
def _drawn(number: int, width: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32], Hashes]:
    """Factors and shifts of the permutations, [number * width], and the weights within a band, [width]."""
    generator = np.random.default_rng(0)
    factors = generator.integers(0, 1 << 32, number * width, dtype=np.uint32) | np.uint32(1)
    shifts = generator.integers(0, 1 << 32, number * width, dtype=np.uint32)
    return factors, shifts, generator.integers(0, 1 << 63, width, dtype=np.uint64) | np.uint64(1)


@functools.lru_cache(maxsize=4)
def bands(jaccard: float) -> tuple[int, int]:
    """(bands, rows per band): the most selective with 1 - (1 - jaccard**rows)**bands of at least RECALL.

    The number of permutations, bands * rows, is at most MOST_PERMUTATIONS.
    """
    best = (1, 1)
    for rows in range(1, MOST_PERMUTATIONS + 1):
        miss = 1 - min(jaccard**rows, 1 - 1e-12)
        if miss == 1:
            break
        number = math.ceil(math.log(1 - RECALL) / math.log(miss))
        if number * rows <= MOST_PERMUTATIONS:
            best = (number, rows)
    return best
