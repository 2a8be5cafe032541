import json
from collections import Counter

import pytest

from conftest import assistant, user
from ladder.data.jsonl import read_rows, write_rows
from ladder.pipeline.stage import UserError, fit
from stages.mixture import Params, main


def run(tmp_path, parts, *, sizes=(30, 20, 10), **params):
    """A mixture of parts with these numbers of rows, in the order of their names."""
    for name, count in zip(parts, sizes, strict=False):
        rows = [{"id": str(n), "messages": user(f"{name} {n}") + assistant("x")} for n in range(count)]
        write_rows(tmp_path / f"part/both/{name}.jsonl", rows)
    return mix(tmp_path, parts, **params)


def mix(tmp_path, parts, **params):
    section = fit(Params, {"parts": parts, "seed": 0, **params}, "mixture.both")
    main(section, tmp_path / "part/both", tmp_path / "mixture/both.jsonl", tmp_path / "both.json")
    return read_rows(tmp_path / "mixture/both.jsonl"), json.loads((tmp_path / "both.json").read_text())


def shares(rows):
    return Counter(row["source"]["name"] for row in rows)


def test_weights_and_counts_are_met_and_sources_kept(tmp_path):
    rows, metrics = run(tmp_path, {"own": {"count": 10}, "hh": {"weight": 0.3}}, rows=15)
    assert shares(rows) == {"own": 10, "hh": 5}
    assert metrics == {
        "rows": 15,
        "type": "messages",
        "parts": {"own": {"rows": 10, "of": 30, "share": 0.6667}, "hh": {"rows": 5, "of": 20, "share": 0.3333}},
    }
    assert len({row["id"] for row in rows}) == 15
    for row in rows:
        assert row["messages"][0]["content"] == f"{row['source']['name']} {row['source']['row']}"


def test_weights_share_the_rows_of_any_number_of_parts_in_proportion(tmp_path):
    rows, _ = run(tmp_path, {"own": {"weight": 0.5}, "hh": {"weight": 0.3}, "web": {"weight": 0.2}}, rows=20)
    assert shares(rows) == {"own": 10, "hh": 6, "web": 4}
    rows, _ = run(tmp_path / "one", {"own": {"count": 7}})
    assert shares(rows) == {"own": 7}


def test_more_than_there_is_is_refused_unless_it_may_repeat(tmp_path):
    parts = {"own": {"count": 10}, "hh": {"count": 50}}
    with pytest.raises(UserError, match="hh.jsonl: expected at least 50 rows, got 20. Ask for fewer, or set repeat"):
        run(tmp_path, parts)
    assert not (tmp_path / "mixture/both.jsonl").exists()
    rows, metrics = run(tmp_path, {**parts, "hh": {"count": 50, "repeat": True}})
    times = Counter(row["messages"][0]["content"] for row in rows if row["source"]["name"] == "hh")
    assert sorted(times.values()) == [2] * 10 + [3] * 10
    assert len({row["id"] for row in rows}) == metrics["rows"] == 60


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path):
    found = []
    for seed in (0, 0, 1):
        run(tmp_path, {"own": {"count": 10}, "hh": {"count": 10}}, seed=seed)
        found.append((tmp_path / "mixture/both.jsonl").read_bytes())
    assert found[0] == found[1] != found[2]


MESSAGES = {"messages": user("1") + assistant("2") + user("3") + assistant("4"), "level": 5}
COMPLETION = {"prompt": user("1") + assistant("2") + user("3"), "completion": assistant("4"), "level": 5}


@pytest.mark.parametrize(
    ("stated", "found", "row"),
    [
        (None, "messages", MESSAGES),
        ("messages", "messages", MESSAGES),
        ("completion", "completion", COMPLETION),
    ],
)
def test_messages_and_completions_become_one_type(tmp_path, stated, found, row):
    write_rows(tmp_path / "part/both/own.jsonl", [COMPLETION])
    write_rows(tmp_path / "part/both/web.jsonl", [MESSAGES])
    rows, metrics = mix(tmp_path, {"own": {"count": 1}, "web": {"count": 1}}, type=stated)
    assert metrics["type"] == found
    left = [{name: value for name, value in one.items() if name not in ("id", "source")} for one in rows]
    assert left == [row, row]


def test_pairs_and_answers_do_not_become_one_type(tmp_path):
    pair = {"prompt": user("1"), "chosen": assistant("2"), "rejected": assistant("3")}
    write_rows(tmp_path / "part/both/own.jsonl", [pair])
    write_rows(tmp_path / "part/both/web.jsonl", [MESSAGES])
    with pytest.raises(UserError) as refusal:
        mix(tmp_path, {"own": {"count": 1}, "web": {"count": 1}})
    assert str(refusal.value).replace(f"{tmp_path}/part/both/", "") == (
        "own.jsonl has rows of preference and web.jsonl has rows of messages: expected one row type. Mix files of "
        "one type, or of messages and completion."
    )


def test_the_parts_of_the_folder_are_those_that_are_named(tmp_path):
    with pytest.raises(UserError, match="web.jsonl: no such file; a part is an entry of `part`: `both/web: {data: …}`"):
        run(tmp_path, {"own": {"count": 1}, "web": {"count": 1}}, sizes=(3,))
    with pytest.raises(UserError, match="`both/web/new: {data: …}`"):
        run(tmp_path, {"own": {"count": 1}, "web/new": {"count": 1}}, sizes=(3,))
    with pytest.raises(UserError, match="own.jsonl: expected in mixture.both.parts too, with its weight or count"):
        run(tmp_path, {"web": {"count": 1}})


def of(name, other, **params):
    return {"parts": {"own": name, "hh": other}, **params}


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (of({"count": 1, "weight": 1}, {"count": 1}), "parts.own: expected exactly one of weight and count"),
        (of({"weight": float("inf")}, {"weight": 1}, rows=3), "parts.own.weight: expected a finite number"),
        (of({"count": 1}, {}), "parts.hh: expected exactly one of weight and count"),
        (
            of({"weight": 1}, {"weight": 1}),
            "rows: expected more than 0, the sum of all counts, to leave rows for the weights",
        ),
        (of({"count": 5}, {"weight": 1}, rows=5), "rows: expected more than 5, the sum of all counts"),
        (of({"count": 5}, {"count": 5}, rows=11), "rows: expected null or 10, the sum of all counts"),
        (
            of({"weight": 1}, {"weight": 0.001}, rows=100),
            "parts: hh gets no row by its weight of 0.001. Raise it or rows, or remove the part.",
        ),
        ({"parts": {}}, "mixture.both.parts: Dictionary should have at least 1 item"),
    ],
)
def test_a_section_that_does_not_add_up_is_refused(section, said):
    with pytest.raises(UserError) as refusal:
        fit(Params, {"seed": 0, **section}, "mixture.both")
    assert said in str(refusal.value)
