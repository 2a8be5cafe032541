"""A ladder over two seeds on a pico model: what runs, what a change of an entry or of `seeds` runs again."""

import json
import sys

import pytest
from test_repro import Ladder

from ladder.models.checkpoint import read_rung
from perf.pico import lay_out

EMPTY = (
    "filter", "card", "prune_layers", "simpo", "orpo", "kto", "reward", "grpo", "rloo", "ppo", "teacher_logits",
    "distill", "distill_features", "gkd", "merge", "speculate", "gate",
)  # fmt: skip
CHAIN = {"sft@words", "preferences@words", "reference_logprobs@words", "dpo@words"}
ONCE = {"base", "task", "punkt", "prompts", "questions", "benchmark", "report"}


def entries(number=0):
    """The stages of one seed: its problems, its rungs, and their answers."""
    end = f"+{number}" if number else ""
    made = {f"{name}{end}" for name in ("problems@words", *CHAIN)}
    return made | {f"{stage}@{rung}/words{end}" for stage in ("answer", "provenance") for rung in ("sft", "dpo")}


def small(params):
    """Only the chain from problems to DPO, over two seeds."""
    for name in EMPTY:
        params[name] = {}
    params["sft"] = {"words": params["sft"]["words"]}
    params["generate"] = {"heldout": {**params["generate"]["heldout"], "model": "sft/words"}}
    for name in ("preferences", "reference_logprobs", "dpo"):
        params[name].pop("chat")
    params["divergence"]["teacher"] = "sft/words"
    params["claims"].update(heldout=["dpo/words"], accuracy=["dpo/words"], divergence=["dpo/words"])
    claim = {"rung": "dpo/words", "against": "chance", "measure": "accuracy", "better": "higher"}
    params["claims"]["claims"] = [claim]
    params["report"].update(rungs=["sft/words", "dpo/words"], seeds=2)


@pytest.fixture(scope="module")
def climbed(tmp_path_factory):
    root = tmp_path_factory.mktemp("ladder")
    lay_out(root, small)
    made = Ladder(root)
    assert made.call(sys.executable, "-m", "ladder", "check") == ""
    assert set(made.repro("report")) == ONCE | entries() | entries(1)  # `ladder check` has run `code`
    return made


def planned(ladder):
    """Return the stages that would run."""
    plan = json.loads(ladder.call(sys.executable, "-m", "ladder", "plan", "report", "--json"))
    return {stage["stage"] for stage in plan["stages"] if stage["runs"]} - {"code"}


def test_a_seed_has_its_own_data_parent_and_training(climbed):
    assert planned(climbed) == set()
    first, second = (read_rung(climbed.root / f"models/dpo/{name}") for name in ("words", "words+1"))
    assert [rung.settings["trainer"]["seed"] for rung in (first, second)] == [42, 1042]
    assert second.settings["data"] == "reference_logprobs/words+1"
    assert second.parents == {"sft/words+1": read_rung(climbed.root / "models/sft/words+1").identity}
    rows = [(climbed.root / f"data/problems/{name}.jsonl").read_text() for name in ("words", "words+1")]
    assert rows[0] != rows[1] and rows[0].count("\n") == rows[1].count("\n")
    lines = {line["rung"]: line for line in json.loads((climbed.root / "report/table.json").read_text())}
    assert list(lines) == ["sft/words", "dpo/words"]
    scores = [
        json.loads((climbed.root / f"data/benchmark/ifeval/dpo/{name}.json").read_text())["mean_strict"]
        for name in ("words", "words+1")
    ]
    assert lines["dpo/words"]["benchmarks"]["ifeval"]["by_seed"] == scores
    assert "| lowest to highest seed | seeds improved |" in (climbed.root / "report/table.md").read_text()


def test_a_param_reaches_the_replica_and_another_seed_runs_alone(climbed):
    climbed.change(lambda params: params["dpo"]["words"]["trainer"].update(beta=0.2))
    below = {f"{stage}@dpo/words{end}" for stage in ("answer", "provenance") for end in ("", "+1")}
    assert planned(climbed) == {"dpo@words", "dpo@words+1", "benchmark", "report"} | below
    climbed.call("dvc", "repro", "--single-item", "dpo@words+1")
    assert read_rung(climbed.root / "models/dpo/words+1").settings["trainer"]["beta"] == 0.2
    climbed.change(lambda params: params["dpo"]["words"]["trainer"].update(beta=0.1))
    climbed.call("dvc", "repro", "--single-item", "dpo@words+1")  # from the run cache
    climbed.change(lambda params: params["report"].update(seeds=3))
    assert planned(climbed) == entries(2) | {"benchmark", "report"}


def test_replicas_that_are_no_longer_asked_for_are_pruned(climbed):
    climbed.change(lambda params: params["report"].pop("seeds"))
    reported = climbed.call(sys.executable, "-m", "ladder", "check")
    assert "outputs of entries that params.yaml no longer has remain: answer@dpo/words+1," in reported
    removed = climbed.call(sys.executable, "-m", "ladder", "prune").split()
    assert set(removed) - {"removed"} == entries(1)
    assert not list(climbed.root.glob("*/*/*+1*"))
    assert planned(climbed) == {"benchmark", "report"}
