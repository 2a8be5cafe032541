import json

import pytest

from conftest import assistant, user
from ladder.data.jsonl import read_rows, write_rows
from ladder.pipeline.stage import UserError
from ladder.synthesis.pair_balancing import prompt_key
from stages.pairs import Params, main


def pair(n, chosen, rejected, **columns):
    return {
        "id": str(n),
        "prompt": user(f"Say {n}."),
        "chosen": assistant(chosen),
        "rejected": assistant(rejected),
        **columns,
    }


def run(tmp_path, rows, **controls):
    write_rows(tmp_path / "source.jsonl", rows)
    outputs = [tmp_path / name for name in ("pairs.jsonl", "validation.jsonl", "pairs.json")]
    main(Params(data="source/set", **controls), tmp_path / "source.jsonl", *outputs)
    validation = read_rows(outputs[1]) if outputs[1].stat().st_size else []
    return read_rows(outputs[0]), validation, json.loads(outputs[2].read_text())


def test_a_data_sets_pairs_go_through_the_same_controls(tmp_path):
    source = {"name": "set", "row": 4}
    rows = [pair(n, "a b c", "a", score_chosen=8.0, score_rejected=float(n % 2 * 8), source=source) for n in range(60)]
    rows += [pair(f"s{n}", "a", "a b c", score_chosen=8.0, score_rejected=1.0) for n in range(20)]
    rows += [pair("same", "a", "a", score_chosen=8.0, score_rejected=1.0)]
    train, validation, counts = run(tmp_path, rows, margin=0.5, max_longer=0.5, validation=0.25)
    assert (counts["in"], counts["dropped_identical"], counts["dropped_equal"]) == (81, 1, 30)
    assert counts["dropped_longer"] == 50 - len(train) - len(validation)
    assert (counts["pairs"], counts["validation_pairs"]) == (len(train), len(validation))
    for side, low, high in ((train, 0.25, 1), (validation, 0, 0.25)):
        here = [row for row in rows if low <= int(prompt_key(row), 16) / 2**256 < high and row["id"] != "same"]
        short = [row for row in here if row["id"].startswith("s")]
        long = [row for row in here if row not in short and row["score_rejected"] == 0]
        assert [row for row in side if row["id"].startswith("s")] == short
        assert len(side) == len(short) + min(len(short), len(long))
    assert {row["prompt"][0]["content"] for row in train}.isdisjoint(row["prompt"][0]["content"] for row in validation)
    assert all(row["source"] == source for row in train if not row["id"].startswith("s"))
    assert run(tmp_path, rows, margin=0.5, max_longer=0.5, validation=0.25)[:2] == (train, validation)


def test_without_controls_every_pair_stays_as_it_is(tmp_path):
    rows = [pair(n, "a b c", "a", prompt_id=n) for n in range(3)]
    train, validation, counts = run(tmp_path, rows)
    assert (train, validation) == (rows, [])
    assert counts == {
        "in": 3,
        "pairs": 3,
        "chosen_longer_by_words": 2.0,
        "chosen_longer_percent": 100.0,
    }


def test_a_row_that_is_no_pair_is_named(tmp_path):
    with pytest.raises(UserError, match="source.jsonl:2: chosen: expected a list of messages"):
        run(tmp_path, [pair(0, "a", "b"), {**pair(1, "a", "b"), "chosen": "text"}])
