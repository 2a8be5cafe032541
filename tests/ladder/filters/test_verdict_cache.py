from functools import partial

import pytest

from ladder.filters import verdict_cache
from ladder.filters.verdict_cache import Remembered, Undecided, fingerprint

ASKED = []


def odd(batch, *, most, model=None):
    """A filter that records its rows."""
    ASKED.extend(row["n"] for row in batch)
    return [None if row["n"] % 2 == 0 or row["n"] > most else f"odd {row['n']}" for row in batch]


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "work"))
    ASKED.clear()


def rows(*numbers):
    return [{"n": number} for number in numbers]


def test_a_row_is_judged_once_whatever_its_batch():
    first = Remembered(partial(odd, most=9))
    assert first(rows(1, 2, 1)) == ["odd 1", None, "odd 1"]
    assert Remembered(partial(odd, most=9))(rows(3, 2, 1)) == ["odd 3", None, "odd 1"]
    assert ASKED == [1, 2, 3]


def doubtful(batch):
    ASKED.extend(row["n"] for row in batch)
    return [Undecided("no grade") if row["n"] == 1 else "bad" for row in batch]


def test_what_could_not_be_judged_is_asked_again():
    for _ in range(2):
        assert Remembered(partial(doubtful))(rows(1, 2)) == ["no grade", "bad"]
    assert ASKED == [1, 2, 1]


def test_other_parameters_other_verdicts():
    assert Remembered(partial(odd, most=9))(rows(3)) == ["odd 3"]
    assert Remembered(partial(odd, most=1))(rows(3)) == [None]
    assert ASKED == [3, 3]


def test_the_fingerprint_is_over_the_models_files_and_the_code(tmp_path, monkeypatch):
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights").write_text("1")
    judge = partial(odd, most=1, model=model)
    before = fingerprint(judge)
    verdict_cache._content.cache_clear()
    assert fingerprint(judge) == before
    (model / "weights").write_text("2")
    verdict_cache._content.cache_clear()
    after = fingerprint(judge)
    assert after != before
    prompt = tmp_path / "prompt.txt"
    reported = []
    for text in ("grade it", "rate it"):
        prompt.write_text(text)
        verdict_cache._content.cache_clear()
        reported.append(fingerprint(partial(odd, most=1, model=prompt)))
    assert len({after, *reported}) == 3
    monkeypatch.setattr(verdict_cache, "_installed", lambda: b"torch==0")
    verdict_cache._content.cache_clear()
    assert fingerprint(judge) != after


def test_code_is_the_file_and_all_of_ours_that_it_imports():
    root = verdict_cache.REPOSITORY / "ladder"
    found = {path.relative_to(root).as_posix() for path in verdict_cache.code(root / "filters/decontamination.py")}
    own = {"filters/decontamination.py", "filters/shingles.py", "data/wording.py", "verifiers/reasoning.py"}
    assert found >= own | {"data/jsonl.py", "data/turns.py", "pipeline/stage.py"}
    assert not {"filters/basic.py", "models/checkpoint.py", "training/train.py"} & found
