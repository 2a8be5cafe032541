"""Rows through a mixture and a synthesis: the row that the number of a mixture's key counts, and the parents."""

import hashlib
from pathlib import Path

import pytest

from ladder.data.jsonl import write_rows
from ladder.plan.recorded import Recorded
from ladder.plan.row_lineage import row_lineage

ROWS = {
    "data/problems/seeds.jsonl": [{"id": "s1"}, {"id": "s2"}, {"id": 'the "third"'}],
    "data/synthesize/new.jsonl": [{"id": "new-0", "source": {"name": "synthesize/new", "row": 0, "parents": ["s2"]}}],
    "data/part/both/own.jsonl": [{"id": "x"}, {"id": "new-0", "source": {"name": "synthesize/new", "parents": ["s2"]}}],
    "data/mixture/both.jsonl": [{"id": "own:2"}, {"id": "own:1.2"}],
}
MADE_FROM = {
    "problems@seeds": [],
    "synthesize@new": ["data/problems/seeds.jsonl"],
    "part@both/own": ["data/synthesize/new.jsonl"],
    "mixture@both": ["data/part/both"],
}


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lock = {}
    for (name, deps), (path, rows) in zip(MADE_FROM.items(), ROWS.items(), strict=True):
        write_rows(Path(path), rows)
        md5 = hashlib.md5(Path(path).read_bytes()).hexdigest()
        lock[name] = {"cmd": "", "deps": [{"path": dep} for dep in deps], "outs": [{"path": path, "md5": md5}]}
    return Recorded(lock)


def places(given, recorded):
    return [(each.path, each.key, each.lines) for each in row_lineage(given, recorded).found]


def test_a_row_of_a_mixture_back_to_the_parent_that_it_was_written_from(recorded):
    assert places("mixture/both:own:2", recorded) == [
        ("data/problems/seeds.jsonl", "s2", (2,)),
        ("data/synthesize/new.jsonl", "new-0", (1,)),
        ("data/part/both/own.jsonl", "new-0", (2,)),
        ("data/mixture/both.jsonl", "own:2", (1,)),
    ]


def test_a_repeated_row_of_a_mixture(recorded):
    assert places("data/mixture/both.jsonl:own:1.2", recorded) == [
        ("data/part/both/own.jsonl", "x", (1,)),
        ("data/mixture/both.jsonl", "own:1.2", (2,)),
    ]


def test_a_key_with_quotation_marks_without_a_file(recorded):
    assert places('the "third"', recorded) == [("data/problems/seeds.jsonl", 'the "third"', (3,))]


def test_a_file_that_differs_from_its_record_is_not_searched(recorded):
    write_rows(Path("data/problems/seeds.jsonl"), [{"id": "s2", "edited": True}])
    found = row_lineage("data/mixture/both.jsonl:own:2", recorded)
    assert found.not_here == ["data/problems/seeds.jsonl"]
    assert [each.path for each in found.found][0] == "data/synthesize/new.jsonl"
