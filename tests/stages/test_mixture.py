import json
from collections import Counter

import pytest

from conftest import assistant, user
from ladder.rows import read_rows, write_rows
from ladder.run import Refused, fit
from stages.mixture import Params, main


def run(tmp_path, first, second, *, own=30, other=20, **params):
    paths = [tmp_path / "filter/chat.jsonl", tmp_path / "source/hh.jsonl"]
    for path, count in zip(paths, (own, other), strict=True):
        rows = [{"id": str(n), "messages": user(f"{path.stem} {n}") + assistant("x")} for n in range(count)]
        write_rows(path, rows)
    parts = [{"data": "filter/chat", **first}, {"data": "source/hh", **second}]
    section = fit(Params, {"parts": parts, "seed": 0, **params}, "mixture.both")
    main(section, *paths, tmp_path / "mixture/both.jsonl", tmp_path / "both.json")
    return read_rows(tmp_path / "mixture/both.jsonl"), json.loads((tmp_path / "both.json").read_text())


def test_weights_and_counts_are_met_and_sources_kept(tmp_path):
    rows, metrics = run(tmp_path, {"count": 10}, {"weight": 0.3}, rows=15)
    assert Counter(row["source"]["name"] for row in rows) == {"filter/chat": 10, "source/hh": 5}
    assert metrics == {
        "rows": 15,
        "parts": {
            "filter/chat": {"rows": 10, "of": 30, "share": 0.6667},
            "source/hh": {"rows": 5, "of": 20, "share": 0.3333},
        },
    }
    assert len({row["id"] for row in rows}) == 15
    for row in rows:
        stem = row["source"]["name"].split("/")[1]
        assert row["messages"][0]["content"] == f"{stem} {row['source']['row']}"


def test_weights_share_the_rows_in_proportion(tmp_path):
    rows, _ = run(tmp_path, {"weight": 0.7}, {"weight": 0.3}, rows=20)
    assert Counter(row["source"]["name"] for row in rows) == {"filter/chat": 14, "source/hh": 6}


def test_more_than_there_is_is_refused_unless_it_may_repeat(tmp_path):
    with pytest.raises(
        Refused, match="source/hh.jsonl: 50 rows are wanted and it has 20; ask for fewer, or set repeat"
    ):
        run(tmp_path, {"count": 10}, {"count": 50})
    assert not (tmp_path / "mixture/both.jsonl").exists()
    rows, metrics = run(tmp_path, {"count": 10}, {"count": 50, "repeat": True})
    times = Counter(row["messages"][0]["content"] for row in rows if row["source"]["name"] == "source/hh")
    assert sorted(times.values()) == [2] * 10 + [3] * 10
    assert len({row["id"] for row in rows}) == metrics["rows"] == 60


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path):
    found = []
    for seed in (0, 0, 1):
        run(tmp_path, {"count": 10}, {"count": 10}, seed=seed)
        found.append((tmp_path / "mixture/both.jsonl").read_bytes())
    assert found[0] == found[1] != found[2]


def test_a_mixture_of_a_mixture_keeps_the_first_source(tmp_path):
    run(tmp_path, {"count": 5}, {"count": 5})
    third = [{"id": "a", "messages": user("third") + assistant("x")}]
    write_rows(tmp_path / "third.jsonl", third)
    parts = [{"data": "mixture/both", "count": 10}, {"data": "third", "count": 1}]
    main(
        fit(Params, {"parts": parts, "seed": 0}, "mixture.all"),
        tmp_path / "mixture/both.jsonl",
        tmp_path / "third.jsonl",
        tmp_path / "all.jsonl",
        tmp_path / "all.json",
    )
    names = Counter(row["source"]["name"] for row in read_rows(tmp_path / "all.jsonl"))
    assert names == {"filter/chat": 5, "source/hh": 5, "third": 1}


@pytest.mark.parametrize(
    ("first", "second", "params", "said"),
    [
        ({"count": 1, "weight": 1}, {"count": 1}, {}, "parts.0: expected weight or count, one of them"),
        ({"count": 1}, {}, {}, "parts.1: expected weight or count, one of them"),
        ({"weight": 1}, {"weight": 1}, {}, "rows: expected more than the 0 that counts claim, for weights to share"),
        ({"count": 5}, {"weight": 1}, {"rows": 5}, "rows: expected more than the 5 that counts claim"),
        ({"count": 5}, {"count": 5}, {"rows": 11}, "rows: expected null or the 10 of both counts"),
        ({"count": 5, "data": "source/hh"}, {"count": 5}, {}, "parts: source/hh stands twice"),
    ],
)
def test_a_section_that_does_not_add_up_is_refused(tmp_path, first, second, params, said):
    with pytest.raises(Refused) as refusal:
        run(tmp_path, first, second, **params)
    assert said in str(refusal.value)
