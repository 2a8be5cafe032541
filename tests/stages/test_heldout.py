import hashlib
import json
from pathlib import Path

import pytest

from conftest import user
from ladder.data.jsonl import read_rows, write_rows
from ladder.models.checkpoint import read_rung
from ladder.pipeline.stage import UserError
from stages.heldout import METRICS, Params, main, summary

PARAMS = {"samples": 3, "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 4, "seed": 11}


@pytest.fixture(autouse=True)
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("code.txt").write_text("00  stages/heldout.py\n")


def answer(base, **entries):
    """Run the stage for a rung; the name of an entry is that of its file in prompts/."""
    inputs = (Path("code.txt"), Path("prompts"), base, base)
    main(Params.model_validate(entries), *inputs, Path("out"), Path("cells.json"), Path("metrics"))


def heldout(folder, base, split=None):
    prompts = [
        {"id": "a", "split": "heldout", "prompt": user("One?"), "checks": [{"kind": "answer", "value": "1"}]},
        {"id": "b", "split": "sft", "prompt": user("Two?"), "checks": [{"kind": "words_at_most", "n": 99}]},
    ]
    write_rows(folder / "prompts/mine/set.jsonl", prompts)
    answer(base, **{"mine/set": {"split": split, **PARAMS}})
    return read_rows(Path("out/mine/set.jsonl")), json.loads(Path("out/mine/set.json").read_text())


def test_every_sample_is_kept_and_the_metrics_say_what_made_them(tmp_path, base):
    rows, metrics = heldout(tmp_path, base)
    assert [(row["id"], row["sample"]) for row in rows] == [(name, n) for name in "ab" for n in range(3)]
    assert len({row["completion"][0]["content"] for row in rows}) > 1
    assert metrics["made_by"] == {
        "split": None, **PARAMS, "asked": 2,
        "prompts_sha256": hashlib.sha256(Path("prompts/mine/set.jsonl").read_bytes()).hexdigest(),
        "rung": read_rung(base).provenance,
    }  # fmt: skip
    assert json.loads(Path("metrics/mine/set.json").read_text()) == {name: metrics[name] for name in METRICS}
    assert metrics["pass_rate"] == pytest.approx(100 * sum(all(row["passed"]) for row in rows) / 6, abs=0.01)
    assert metrics["tokens"] == pytest.approx(sum(row["tokens"] for row in rows) / 6, abs=0.01)
    assert [row["id"] for row in heldout(tmp_path, base, "heldout")[0]] == ["a"] * 3


def test_a_set_whose_inputs_changed_is_answered_again_and_the_bytes_are_those_of_a_run_from_nothing(
    tmp_path, base, capsys
):
    checks = [{"kind": "words_at_most", "n": 99}]
    for name in ("one", "two"):
        write_rows(Path(f"prompts/{name}.jsonl"), [{"id": name, "prompt": user(f"{name}?"), "checks": checks}])
    entry = {"split": None, **PARAMS}

    def answered(**entries):
        answer(base, **entries)
        return [line for line in capsys.readouterr().out.splitlines() if "answering" in line]

    assert answered(one=entry, two=entry) == ["one: answering (new)", "two: answering (new)"]
    assert answered(one=entry, two={**entry, "seed": 12}) == ["two: answering (entry changed)"]
    write_rows(Path("prompts/one.jsonl"), [{"id": "one", "prompt": user("1?"), "checks": checks}])
    assert answered(one=entry, two={**entry, "seed": 12}) == ["one: answering (prompts changed)"]
    folders = ("out", "metrics", "cells.json")
    before = {path: path.read_bytes() for folder in folders for path in _files(Path(folder))}
    for path in before:
        path.unlink()
    assert len(answered(one=entry, two={**entry, "seed": 12})) == 2
    assert {path: path.read_bytes() for folder in folders for path in _files(Path(folder))} == before
    assert answered(two={**entry, "seed": 12}) == [] and [path.stem for path in _files(Path("metrics"))] == ["two"]


def _files(path):
    return [path] if path.is_file() else sorted(inner for inner in path.rglob("*") if inner.is_file())


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
    write_rows(Path("prompts/x.jsonl"), [{"id": "a", "split": "x", "prompt": user("Hi"), "checks": []}])
    with pytest.raises(UserError, match="prompts/x.jsonl: prompt 1: no check; expected at least one"):
        answer(base, x={"split": None, **PARAMS})
