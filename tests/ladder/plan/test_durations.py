"""Seconds of the stages of a run that are left: former runs, estimates, and corrections by the stages that ended."""

import json

import pytest

from ladder.pipeline.stage import read_written
from ladder.plan import durations
from ladder.plan.changes import Change, Reason
from ladder.plan.costs import Costs
from ladder.plan.durations import Basis, Durations, digest, planned, read_record
from ladder.plan.expand import Stage


def stage(name, values=None, outs=(), params=()):
    return Stage(name, name.partition("@")[0], f"python -m {name}", (), outs, params, values=values or {})


BASES = {
    "base": Basis("short"),
    "task": Basis("short"),
    "sft@chat": Basis("training", 100.0),
    "dpo@chat": Basis("training", 40.0),
    "answer@base": Basis("generation", 30.0),
    "answer@sft": Basis("generation", 60.0),
    "judge@sheet": Basis("unknown"),
    "judge@other": Basis("unknown"),
}


def test_the_time_is_unknown_while_one_stage_has_no_basis():
    left = Durations(BASES)
    assert left.left(["sft@chat", "answer@base"]) == 130
    assert left.left(["sft@chat", "judge@sheet"]) is None
    assert left.left(["sft@chat", "task"]) is None  # no short stage has ended
    assert left.left(["no such stage"]) is None
    assert left.left([]) == 0


def test_what_ended_corrects_what_is_left():
    left = Durations(BASES)
    left.end("base", 5.0)
    assert left.left(["task"]) == 5
    # The start of a process, 5 s, is added to an estimate of the plan.
    assert left.left(["task", "dpo@chat"]) == 5 + (5 + 40)
    left.end("sft@chat", 205.0)  # 200 s of work where 100 were expected
    assert left.left(["dpo@chat"]) == 5 + 2 * 40
    assert left.left(["answer@sft"]) == 5 + 60  # another kind of work
    left.end("answer@base", 20.0)
    assert left.left(["answer@sft"]) == 5 + 60 * 15 / 30
    left.end("judge@sheet", 7.0)
    assert left.left(["judge@other"]) == 7
    left.end("answer@sft", 5000.0)  # ten times as long at most
    assert left._expected("answer@base") == 5 + 30 * 10


def test_seconds_of_former_runs_are_scaled_by_how_busy_the_machine_is():
    left = Durations({"a": Basis("measured", 10.0), "b": Basis("measured", 30.0)})
    left.end("a", 15.0)
    assert left.left(["b"]) == 45


def test_a_record_counts_while_the_parameters_are_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = stage("one", params=("one",))
    found = {"one": Change(one, (Reason("always", "runs every time"),))}
    params = {"one": {"steps": 3}}
    made = durations.durations(params, found, {}, "cpu")
    assert made.bases == {"one": Basis("short")}
    made.end("one", 4.0)
    assert read_record() == {}  # there is no repository of DVC
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    made.end("one", 4.0)
    assert read_record() == {"one": {"digest": digest(one, params), "seconds": 4.0}}
    assert durations.durations(params, found, {}, "cpu").bases == {"one": Basis("measured", 4.0)}
    assert durations.durations({"one": {"steps": 4}}, found, {}, "cpu").bases == {"one": Basis("short")}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"version": 0, "stages": {}}', '{"version": 1, "stages": {"a": 1}}'])
def test_a_damaged_record_is_ignored(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    durations.RECORD.parent.mkdir(parents=True)
    durations.RECORD.write_text(text)
    assert read_record() == {}


def test_the_record_of_the_last_training_counts_unless_its_parameters_changed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "metrics/sft").mkdir(parents=True)
    (tmp_path / "metrics/sft/chat.json").write_text(json.dumps({"seconds": 61.5}))
    one = stage("sft@chat", outs=("metrics/sft/chat.json",))
    costs = Costs({}, {}, "cpu")
    assert planned(Change(one, (Reason("code", "x"),)), costs) == Basis("measured", 61.5)
    assert planned(Change(one, (Reason("param", "x"),)), costs) == Basis("short")
    (tmp_path / "metrics/sft/chat.json").unlink()
    assert planned(Change(one, (Reason("code", "x"),)), costs) == Basis("short")


def test_a_stage_whose_parent_is_missing_or_that_asks_an_endpoint_has_no_basis():
    costs = Costs({}, {}, "cpu")
    trained = stage("sft@chat", {"parent": "nowhere", "trainer": {"max_steps": 3}})
    assert planned(Change(trained, ()), costs) == Basis("unknown")
    asked = stage("generate@chat", {"endpoint": {"model": "m"}, "max_new_tokens": 9, "rounds": 1, "batch": 1})
    assert planned(Change(asked, ()), costs) == Basis("unknown")


def test_every_stage_of_the_committed_pipeline_has_a_basis():
    from ladder.plan.changes import changes

    params = read_written()
    found = {name: Change(each.stage, (Reason("new", "no entry"),)) for name, each in changes(params).items()}
    made = durations.durations(params, found, {}, "cpu")
    kinds = {name.partition("@")[0]: basis.kind for name, basis in made.bases.items()}
    assert "unknown" not in kinds.values()
    assert [kinds[name] for name in ("sft", "grpo", "distill")] == ["training"] * 3
    assert [kinds[name] for name in ("generate", "answer")] == ["generation"] * 2
    assert [kinds[name] for name in ("task", "filter", "merge", "report")] == ["short"] * 4
