"""Speed, recall and precision of near_duplicates against datasketch.

    python -m perf.dedup [--documents 50000]        against datasketch and the exact answer, in one run
    python -m perf.dedup --only --documents 1000000 time and memory of near_duplicates alone, rows read from disk

The documents are synthetic: 40 to 200 words drawn from 50,000 by Zipf's law. A fifth are copies of an earlier document
with 0 to 12 of its words changed, dropped or added. The exact answer comes from an all-pairs join of the word tuples
that shares no code with the filter (prefix filtering: Chaudhuri et al. 2006; Bayardo et al. 2007). Needs datasketch
(`pip install datasketch`). Seconds are CPU seconds on one core.
"""

import argparse
import json
import resource
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from ladder.data.jsonl import Row
from ladder.filters.minhash_dedup import near_duplicates

NGRAM, JACCARD = 5, 0.8
Shingles = frozenset[tuple[str, ...]]


def documents(number: int, seed: int = 0) -> Iterator[str]:
    """Generate texts, a fifth of them edited copies of one of the last 2000 originals, so that memory stays flat."""
    generator = np.random.default_rng(seed)
    vocabulary = np.array([f"w{index}" for index in range(50_000)])
    weights = 1 / np.arange(1, 50_001)
    edges = np.cumsum(weights / weights.sum())
    recent: list[list[str]] = []
    for _ in range(number):
        if recent and generator.random() < 0.2:
            words = list(recent[generator.integers(len(recent))])
            for _ in range(generator.integers(0, 13)):
                place = int(generator.integers(len(words)))
                change = generator.integers(3)
                new = str(vocabulary[generator.integers(50_000)])
                words[place : place + (change != 0)] = [] if change == 1 else [new]
        else:
            drawn = np.searchsorted(edges, generator.random(generator.integers(40, 201)))
            words = vocabulary[np.minimum(drawn, 49_999)].tolist()
            recent.append(words)
            del recent[:-2000]
        yield " ".join(words)


class Rows:
    """Rows of a file, as an iterable that can be read repeatedly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[Row]:
        with self.path.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)


def row(number: int, text: str) -> Row:
    """Build a row with the text as its completion."""
    return {"id": str(number), "prompt": [], "completion": [{"role": "assistant", "content": text}]}


def shingles(text: str) -> Shingles:
    """Return the set of word n-grams of a text."""
    words = text.split()
    return frozenset(zip(*(words[start:] for start in range(NGRAM)), strict=False))


def alike(first: Shingles, second: Shingles) -> bool:
    """Whether the Jaccard similarity is at least 0.8, computed exactly."""
    return Fraction(len(first & second), len(first | second)) >= Fraction(4, 5)


def exact_pairs(sets: list[Shingles]) -> list[list[int]]:
    """Return for each document the earlier documents similar to it.

    Two sets with Jaccard similarity 0.8 share one of the rarest |A| - ceil(0.8 |A|) + 1 shingles of each."""
    frequency = Counter(shingle for one in sets for shingle in one)
    standing: dict[tuple[str, ...], list[int]] = defaultdict(list)
    pairs = []
    for number, one in enumerate(sets):
        ordered = sorted(one, key=lambda shingle: (frequency[shingle], shingle))
        prefix = ordered[: len(one) - -(-4 * len(one) // 5) + 1]
        candidates = sorted({other for shingle in prefix for other in standing[shingle]})
        pairs.append([other for other in candidates if alike(one, sets[other])])
        for shingle in prefix:
            standing[shingle].append(number)
    return pairs


def keep_first(pairs: list[list[int]]) -> set[int]:
    """Return the documents to remove: those similar to an earlier document that is kept."""
    gone: set[int] = set()
    for number, earlier in enumerate(pairs):
        if any(other not in gone for other in earlier):
            gone.add(number)
    return gone


def datasketch(texts: list[str]) -> set[int]:
    """Find duplicates with datasketch as in its documentation: MinHash of 128 permutations, LSH at 0.8."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=JACCARD, num_perm=128)
    gone = set()
    for number, text in enumerate(texts):
        words = text.split()
        grams = [" ".join(words[start : start + NGRAM]).encode() for start in range(len(words) - NGRAM + 1)]
        signature = MinHash(num_perm=128)
        signature.update_batch(grams)
        if index.query(signature):
            gone.add(number)
        else:
            index.insert(number, signature)
    return gone


def ours(rows: Iterable[Row]) -> set[int]:
    """Find duplicates with near_duplicates; return their row numbers."""
    reasons = near_duplicates(rows, part="completion", jaccard=JACCARD, ngram=NGRAM, unit="words")
    return {number for number, reason in enumerate(reasons) if reason is not None}


def report(name: str, gone: set[int], seconds: float, pairs: list[list[int]]) -> None:
    """Print throughput, recall, and how many documents were removed wrongly."""
    wanted = keep_first(pairs)
    wrong = sum(not any(other not in gone for other in pairs[number]) for number in gone)
    found = sum(number in gone for number in wanted)
    print(
        f"{name:16} {len(pairs) / seconds:8.0f} docs/s  recall {found / len(wanted):.4f} "
        f"({found} of {len(wanted)})  removed wrongly {wrong}",
        flush=True,
    )


def compare(number: int) -> None:
    """Run near_duplicates and datasketch on the same documents; print their results and the ratio of their times."""
    texts = list(documents(number))
    rows = [row(*numbered) for numbered in enumerate(texts)]
    sets = [shingles(text) for text in texts]
    pairs = exact_pairs(sets)
    print(
        f"{number} documents, {sum(map(bool, pairs))} with Jaccard similarity {JACCARD} or more to an earlier one",
        flush=True,
    )
    seconds = {}
    ours(rows[:500]), datasketch(texts[:500])
    for name, find in (("near_duplicates", lambda: ours(rows)), ("datasketch", lambda: datasketch(texts))):
        start = time.process_time()
        gone = find()
        seconds[name] = time.process_time() - start
        report(name, gone, seconds[name], pairs)
    print(f"ratio {seconds['datasketch'] / seconds['near_duplicates']:.1f}")


def alone(number: int) -> None:
    """Run near_duplicates on rows read from disk; print its time and peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for numbered in enumerate(documents(number)):
                file.write(json.dumps(row(*numbered)) + "\n")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.process_time()
        gone = ours(Rows(path))
        seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{number} documents read twice from disk: {seconds:.0f} s, {number / seconds:.0f} docs/s, "
        f"{len(gone)} removed, peak memory {peak / 1024:.0f} MiB ({before / 1024:.0f} before)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=50_000)
    parser.add_argument("--only", action="store_true", help="near_duplicates alone, with its memory")
    arguments = parser.parse_args()
    (alone if arguments.only else compare)(arguments.documents)


if __name__ == "__main__":
    main()
