import re

import numpy as np
import pytest

from ladder.filters import shingles
from ladder.filters.shingles import HashSet, minhash, recurring, shingle, shingle_sets

TEXTS = ["", "a", "Hi, World! foo_bar ñandú ÄÖ 12", "x\0y z a b c", "one  two\nthree four five six", "日本 語 a", "--"]


def grams(text, ngram, unit):
    """Shingles in plain Python."""
    parts = re.findall(r"\w+", text.lower()) if unit == "words" else list(" ".join(text.lower().split()))
    runs = [tuple(parts[start : start + ngram]) for start in range(len(parts) - ngram + 1)]
    return runs or ([tuple(parts)] if parts else [])


@pytest.mark.parametrize("unit", ["words", "characters"])
@pytest.mark.parametrize("ngram", [1, 2, 3, 5])
def test_hashes_stand_for_the_shingles_one_to_one(unit, ngram):
    hashes, counts = shingle(TEXTS, ngram, unit)
    wanted = [grams(text, ngram, unit) for text in TEXTS]
    assert counts.tolist() == [len(runs) for runs in wanted]
    known = dict(zip(hashes.tolist(), [run for runs in wanted for run in runs], strict=True))
    assert [known[number] for number in hashes.tolist()] == [run for runs in wanted for run in runs]
    assert len(set(known.values())) == len(known)


def test_a_long_text_is_hashed_in_pieces_to_the_same_numbers(monkeypatch):
    text = " ".join(f"word{number}" for number in range(500)) + " " + "x" * 100
    whole, _ = shingle([text, "a b"], 3, "words")
    monkeypatch.setattr(shingles, "CHARACTERS", 64)
    monkeypatch.setattr(shingles, "_PIECE", re.compile(r"(?s:.{1,64})\w*"))
    pieces, counts = shingle([text, "a b"], 3, "words")
    assert (pieces == whole).all()
    assert counts.tolist() == [499, 1]


def test_a_set_does_not_depend_on_its_batch():
    alone = [shingle_sets([text], 3, "words")[0] for text in TEXTS]
    together = shingle_sets(TEXTS, 3, "words")
    assert all(np.array_equal(*pair) for pair in zip(alone, together, strict=True))


def test_signatures_agree_as_often_as_the_sets_are_alike():
    """P(two minima equal) is the Jaccard similarity (Broder 1997): 60 of 140 shared, 2000 permutations."""
    first, second = (" ".join(f"w{number}" for number in range(start, start + 100)) for start in (0, 40))
    hashes, counts = shingle([first, second], 1, "words")
    generator = np.random.default_rng(1)
    factors, shifts = (generator.integers(0, 1 << 32, 2000, dtype=np.uint32) for _ in range(2))
    signatures = minhash(hashes, counts, factors | np.uint32(1), shifts)
    assert signatures.shape == (2, 2000)
    share = (signatures[0] == signatures[1]).mean()
    assert abs(share - 60 / 140) < 4 * (60 / 140 * 80 / 140 / 2000) ** 0.5


def test_how_often_hashes_recur_in_their_text():
    hashes = np.array([5, 7, 5, 5, 7, 5, 9], np.uint64)
    again, commonest = recurring(hashes, np.array([4, 0, 2, 1]))
    assert again.tolist() == [2, 0, 0, 0]
    assert commonest.tolist() == [3, 0, 1, 1]


def test_recurrences_of_many_hashes_equal_a_count():
    drawn = np.random.default_rng(0).integers(0, 1 << 16, 60_000, dtype=np.uint64) << np.uint64(40)
    again, commonest = recurring(drawn, np.array([50_000, 10_000]))
    several = [np.unique(part, return_counts=True)[1] for part in np.split(drawn, [50_000])]
    assert again.tolist() == [50_000 - len(several[0]), 10_000 - len(several[1])]
    assert commonest.tolist() == [several[0].max(), several[1].max()]


def test_a_set_has_its_hashes_and_no_others_that_begin_alike():
    known = HashSet(np.array([1 << 63, 3, 3, (1 << 64) - 1], np.uint64))
    asked = np.array([3, 4, 1 << 63, (1 << 63) + 1, (1 << 64) - 1, 0], np.uint64)
    assert known.has(asked).tolist() == [True, False, True, False, True, False]
    assert HashSet(np.zeros(0, np.uint64)).has(asked).tolist() == [False] * 6
