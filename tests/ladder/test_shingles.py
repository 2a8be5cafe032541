import re

import numpy as np
import pytest

from ladder import shingles
from ladder.shingles import minhash, shingle, shingle_sets

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
