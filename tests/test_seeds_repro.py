"""A ladder over two seeds on a pico model: what runs, what a change of an entry or of `seeds` runs again."""

import json

import pytest
from pico_ladder import Ladder

from ladder.models.checkpoint import read_rung
from ladder.pipeline.stage import read_written
from ladder.plan.changes import changes
from perf.pico import lay_out

EMPTY = (
    "generate", "filter", "card", "prune_layers", "preferences", "reference_logprobs", "dpo", "simpo", "orpo", "kto",
    "reward", "grpo", "rloo", "ppo", "teacher_logits", "distill", "distill_features", "gkd", "merge", "speculate",
    "heldout", "gate",
)  # fmt: skip
ONCE = {"base", "task", "punkt", "questions", "benchmark", "report"}


def entries(number=0):
    """The stages of one seed: its problems, its rung, and the rung's answers."""
    end = f"+{number}" if number else ""
    return {f"problems@words{end}", f"sft@words{end}", f"answer@sft/words{end}", f"provenance@sft/words{end}"}


def small(params):
    """Only problems and one rung, over two seeds."""
    for name in EMPTY:
        params[name] = {}
    params["sft"] = {"words": params["sft"]["words"]}
    for table in ("accuracy", "divergence", "judge_reliability"):
        params[table]["data"] = "problems/practice"  # rows of an evaluation have no replica
    params["divergence"]["teacher"] = "sft/words"
    params["claims"].update(heldout=[], accuracy=[], divergence=[], claims=[])
    params["report"].update(rungs=["sft/words"], seeds=2)


@pytest.fixture(scope="module")
def climbed(tmp_path_factory, stage_programs):
    root = tmp_path_factory.mktemp("ladder")
    lay_out(root, small)
    made = Ladder(root, stage_programs)
    assert made.ladder("check") == ""
    assert set(made.repro("report")) == ONCE | entries() | entries(1)  # `ladder check` has run `code`
    return made


@pytest.fixture(autouse=True)
def folder(climbed, monkeypatch):
    monkeypatch.chdir(climbed.root)


def planned():
    """Return the stages that `ladder plan report` lists."""
    return {name for name, change in changes(read_written(), ["report"]).items() if change.runs} - {"code"}


def test_a_seed_has_its_own_data_and_training(climbed):
    assert planned() == set()
    rungs = [read_rung(climbed.root / f"models/sft/{name}") for name in ("words", "words+1")]
    assert [rung.settings["trainer"]["seed"] for rung in rungs] == [42, 1042]
    assert [rung.settings["data"] for rung in rungs] == ["problems/words", "problems/words+1"]
    assert rungs[0].parents == rungs[1].parents
    rows = [(climbed.root / f"data/problems/{name}.jsonl").read_text() for name in ("words", "words+1")]
    assert rows[0] != rows[1] and rows[0].count("\n") == rows[1].count("\n")
    (line,) = json.loads((climbed.root / "report/table.json").read_text())
    scores = [
        json.loads((climbed.root / f"data/benchmark/ifeval/sft/{name}.json").read_text())["mean_strict"]
        for name in ("words", "words+1")
    ]
    assert line["benchmarks"]["ifeval"]["by_seed"] == scores
    assert "A score with a range in parentheses" in (climbed.root / "report/table.md").read_text()


def test_a_param_reaches_the_replica_and_another_seed_runs_alone(climbed):
    written = (climbed.root / "params.yaml").read_text()
    climbed.change(lambda params: params["sft"]["words"]["trainer"].update(learning_rate=2.0e-3))
    below = {f"{stage}@sft/words{end}" for stage in ("answer", "provenance") for end in ("", "+1")}
    assert planned() == {"sft@words", "sft@words+1", "benchmark", "report"} | below
    (climbed.root / "params.yaml").write_text(written)
    climbed.change(lambda params: params["report"].update(seeds=3))
    assert planned() == entries(2) | {"benchmark", "report"}


def test_replicas_that_are_no_longer_asked_for_are_pruned(climbed):
    climbed.change(lambda params: params["report"].pop("seeds"))
    reported = climbed.ladder("check")
    assert "outputs of entries that params.yaml no longer has remain: answer@sft/words+1," in reported
    removed = climbed.ladder("prune").split()
    assert set(removed) - {"removed"} == entries(1)
    assert not list(climbed.root.glob("*/*/*+1*"))
    assert planned() == {"benchmark", "report"}
