import hashlib
import json

import pytest

from conftest import user
from ladder.data.jsonl import read_rows, write_rows
from ladder.models.checkpoint import read_rung
from ladder.pipeline.stage import UserError
from stages.heldout import Params, main, summary

PARAMS = {"samples": 3, "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 4, "seed": 11}


def heldout(folder, base, split=None):
    prompts = [
        {"id": "a", "split": "heldout", "prompt": user("One?"), "checks": [{"kind": "answer", "value": "1"}]},
        {"id": "b", "split": "sft", "prompt": user("Two?"), "checks": [{"kind": "words_at_most", "n": 99}]},
    ]
    write_rows(folder / "prompts.jsonl", prompts)
    outputs = [folder / "rows.jsonl", folder / "heldout.json"]
    main(Params(split=split, **PARAMS), folder / "prompts.jsonl", base, base, *outputs)
    return read_rows(outputs[0]), json.loads(outputs[1].read_text())


def test_every_sample_is_kept_and_the_metrics_say_what_made_them(tmp_path, base):
    rows, metrics = heldout(tmp_path, base)
    assert [(row["id"], row["sample"]) for row in rows] == [(name, n) for name in "ab" for n in range(3)]
    assert len({row["completion"][0]["content"] for row in rows}) > 1
    assert metrics["made_by"] == {
        "split": None, **PARAMS, "asked": 2,
        "prompts_sha256": hashlib.sha256((tmp_path / "prompts.jsonl").read_bytes()).hexdigest(),
        "rung": "base", "identity": read_rung(base).identity,
    }  # fmt: skip
    assert metrics["pass_rate"] == pytest.approx(100 * sum(all(row["passed"]) for row in rows) / 6, abs=0.01)
    assert metrics["tokens"] == pytest.approx(sum(row["tokens"] for row in rows) / 6, abs=0.01)
    assert [row["id"] for row in heldout(tmp_path, base, "heldout")[0]] == ["a"] * 3


def test_the_same_rung_gives_the_same_bytes(tmp_path, base):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        heldout(tmp_path / name, base)
    for file in ("rows.jsonl", "heldout.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def row(name, passed, finished=True, tokens=10):
    return {"id": name, "passed": passed, "finished": finished, "tokens": tokens}


def test_rates_by_hand_and_prompts_are_what_is_resampled(tmp_path):
    rows = [row("a", [True, True]), row("a", [True, False], tokens=20), row("b", [False, False], False, 30)]
    means, interval = summary([*rows, row("b", [False, True], tokens=40)], tmp_path)
    assert means == {"pass_rate": 25.0, "reward": 50.0, "finish_rate": 75.0, "tokens": 25.0}
    # Two prompts: resamples are (a, a), (a, b), (b, b), with probability 1/4, 1/2 and 1/4.
    assert (interval["pass_rate_low"], interval["pass_rate_high"]) == (0.0, 50.0)
    assert (interval["reward_low"], interval["reward_high"]) == (25.0, 75.0)
    assert (interval["tokens_low"], interval["tokens_high"]) == (15.0, 35.0)


def test_none_passed_is_not_certainty(tmp_path):
    _, interval = summary([row(str(n), [False]) for n in range(32)], tmp_path)
    assert (interval["pass_rate_low"], interval["pass_rate_high"]) == (0.0, 10.72)  # Wilson, 0 of 32


def test_a_row_that_lacks_a_column_is_named(tmp_path):
    with pytest.raises(UserError, match="rows.jsonl: row 2: no column 'passed'"):
        summary([row("a", [True]), {"id": "b"}], tmp_path / "rows.jsonl")


def test_a_prompt_without_checks_is_refused(tmp_path, base):
    write_rows(tmp_path / "prompts.jsonl", [{"id": "a", "split": "x", "prompt": user("Hi"), "checks": []}])
    params, outputs = Params(split=None, **PARAMS), (tmp_path / "rows.jsonl", tmp_path / "out.json")
    with pytest.raises(UserError, match="prompts.jsonl: prompt 1: no check; expected at least one"):
        main(params, tmp_path / "prompts.jsonl", base, base, *outputs)
