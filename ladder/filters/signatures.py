"""What filters of all rows need of each, as numbers, made where the row is read: on whatever machine, and once.

A sketch has the name and the parameters of a filter that sees all rows, and gives of a batch an array [rows, numbers].
The filter then judges by the sketches of all rows, and reads again only the rows that it must see.
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
from ladder.data.turns import Part, said
from ladder.data.wording import COLUMNS, with_reasoning
from ladder.filters.batch import ROWS, Batch
from ladder.filters.shingles import Hashes, Unit, minhash, mix, runs, shingle
from ladder.pipeline.stage import UserError

__all__ = ["exact", "near_duplicates"]

RECALL = 0.9995
"""The least chance that two texts as alike as the threshold share a band."""
MOST_PERMUTATIONS = 128
ANSWERS = ("chosen", "rejected")


def sketched(rows: Iterable[Row], sketch: Callable[[Batch], Hashes]) -> list[Hashes]:
    """The sketches of all rows in order, in arrays of several rows: as they were made, or made here."""
    if isinstance(rows, Rows) and rows.sketches is not None:
        return [part for part in rows.sketches if len(part)]
    left, made = iter(rows), []
    while batch := list(itertools.islice(left, ROWS)):
        made.append(sketch(Batch(batch)))
    return made


def exact(batch: Batch) -> Hashes:
    """Shape [rows, 2]: 16 bytes of sha256 of what is said in the row and by whom, but for case and blanks."""
    digests = (hashlib.sha256(_one_spaced(_told(row).lower())).digest()[:16] for row in batch.rows)
    return np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2)


def _told(row: Row) -> str:
    """Every message after its speaker, and the answers of a pair apart; a NUL that is said is no end of a message. Rows
    that differ in reasoning, in which turns are learned, or in their label are no duplicates."""
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
    """UTF-8, a space for each run of blanks, none at the ends."""
    if text.isascii() and b"  " not in (spaced := text.encode().translate(_SPACES)):  # the same, many times as fast
        return spaced.strip(b" ")
    return " ".join(text.split()).encode("utf-8", "surrogatepass")


_SPACES = bytes(ord(" ") if chr(code).isspace() else code for code in range(256))


def near_duplicates(batch: Batch, *, part: Part, jaccard: float, ngram: int, unit: Unit) -> Hashes:
    """Shape [rows, bands]: a number for each band of the text's signature, 0 for a text without a shingle."""
    if not 0.1 <= jaccard <= 1 or ngram < 1:
        raise UserError(f"near_duplicates: expected jaccard of 0.1 to 1 and ngram of 1 or more, got {jaccard}, {ngram}")
    if batch.large:  # one text after the other, for the sake of memory
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
    """Factors and shifts of the permutations, [number * width], and the weights in a band, [width]."""
    generator = np.random.default_rng(0)
    factors = generator.integers(0, 1 << 32, number * width, dtype=np.uint32) | np.uint32(1)
    shifts = generator.integers(0, 1 << 32, number * width, dtype=np.uint32)
    return factors, shifts, generator.integers(0, 1 << 63, width, dtype=np.uint64) | np.uint64(1)


@functools.lru_cache(maxsize=4)
def bands(jaccard: float) -> tuple[int, int]:
    """(bands, rows of a band): the most selective for which 1 - (1 - jaccard**rows)**bands is RECALL or more."""
    best = (1, 1)
    for rows in range(1, MOST_PERMUTATIONS + 1):
        miss = 1 - min(jaccard**rows, 1 - 1e-12)
        if miss == 1:
            break
        number = math.ceil(math.log(1 - RECALL) / math.log(miss))
        if number * rows <= MOST_PERMUTATIONS:
            best = (number, rows)
    return best
