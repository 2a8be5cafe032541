"""Costs of the ladder of recipes/guide.yaml, against the metrics of its last run and numbers worked by hand."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import ROOT
from ladder.pipeline.errors import UserError
from ladder.pipeline.stage import read_written, read_yaml
from ladder.plan.changes import changes
from ladder.plan.compute import Time
from ladder.plan.costs import Cost, Costs
from ladder.plan.expand import read_lock
from ladder.plan.rows import rows_of
from ladder.plan.tables import merged

LAST_RUN = json.loads(Path(__file__).with_name("last_run.json").read_text())
"""Records of the stages' last run on two CPU cores, by path."""


def guide():
    return read_yaml(ROOT / "recipes/guide.yaml")


@pytest.fixture(scope="module")
def costs():
    params = guide()
    return Costs(changes(params), read_lock(), "h200")


def test_trainable_parameters_are_those_of_the_last_run(costs):
    compared = 0
    for cost in costs.all():
        metrics = [path for path in costs.found[cost.name].stage.outs if path.startswith("metrics/")]
        recorded = LAST_RUN.get(metrics[0], {}) if metrics else {}
        if "trainable_parameters" in recorded and cost.trainable is not None:
            assert (cost.name, cost.trainable) == (cost.name, recorded["trainable_parameters"])
            compared += 1
    assert compared > 20


def test_tokens_are_near_those_of_the_committed_run():
    made = Costs(changes(read_written()), read_lock(), "h200")
    known = {cost.name: cost for cost in made.all()}
    trained = 105.6 * 149.0  # tokens per second and seconds of the committed run of sft/maths
    assert known["sft@maths"].tokens == pytest.approx(trained, rel=0.35)


def test_rows_by_params(costs):
    def bound(path, split=None):
        return rows_of(path, costs.found, {}, split).rows

    params = guide()
    prompts, chat = params["prompts"]["count"], params["generate"]["chat"]
    assert bound("data/prompts.jsonl") == sum(prompts.values())
    assert bound("data/prompts.jsonl", "sft") == prompts["sft"]
    assert bound("data/generate/chat.jsonl") == prompts["sft"] * chat["samples"]
    assert bound("data/filter/chat.jsonl") == prompts["sft"]  # best: {per_prompt: 1}


def test_answers_to_held_out_problems_are_bounded_by_their_number(costs):
    (heldout,) = [cost for cost in costs.all() if cost.name == "heldout@base"]
    params = guide()
    counts = {name: params["problems"][name.removeprefix("problems/")]["count"] for name in params["heldout"]}
    most = sum(counts[name] * part["max_new_tokens"] for name, part in params["heldout"].items())
    assert heldout.tokens == most and heldout.time is not None


def test_a_rung_answers_the_benchmarks_of_the_table_alone():
    params = guide()
    params["report"]["benchmarks"] = ["gsm8k", "ifeval"]
    costs = Costs(changes(params), read_lock(), "h200")
    (answers,) = [cost for cost in costs.all() if cost.name == "answer@base"]
    parts = [params["answer"][name] for name in ("gsm8k", "ifeval")]
    assert answers.tokens == sum(part["rows"] * part["max_new_tokens"] for part in parts)


@pytest.fixture(scope="module")
def synthesize():
    """The entry of recipes/synthesize.yaml, and its costs with the given prices and budget."""
    params = guide()
    params["synthesize"] = read_yaml(ROOT / "recipes/synthesize.yaml")["synthesize"]
    found = changes(params, ["synthesize@evolved"])
    stage = found["synthesize@evolved"].stage

    def endpoint(**settings):
        values = {**stage.values, "budget": {**stage.values["budget"], **settings.get("budget", {})}}
        values["endpoint"] = {**values["endpoint"], "prices": settings.get("prices")}
        changed = replace(found["synthesize@evolved"], stage=replace(stage, values=values))
        (reported,) = Costs({**found, stage.name: changed}, {}, "cpu").cost(changed).endpoints
        return reported

    return stage.values, endpoint


def test_calls_and_money_of_an_endpoint(synthesize):
    values, endpoint = synthesize
    priced = endpoint(prices={"prompt": 1.0, "completion": 4.0})
    assert (priced.model, priced.calls) == ("NAME", values["rounds"] * values["batch"])
    # 300 tokens are assumed for a prompt
    assert priced.money == pytest.approx(priced.calls * (300 * 1.0 + values["max_new_tokens"] * 4.0) / 1e6)


def test_a_budget_bounds_calls_and_money(synthesize):
    _, endpoint = synthesize
    prices = {"prompt": 1.0, "completion": 4.0}
    assert endpoint(budget={"requests": 10}).calls == 10
    assert endpoint(budget={"money": 2.0}, prices=prices).money == 2.0
    assert endpoint(budget={"tokens": 1000}, prices=prices).money == 1000 * 4.0 / 1e6
    assert endpoint().money is None  # without prices


def test_an_unknown_base_leaves_the_numbers_open():
    params = guide()
    params["base"] = {**params["base"], "source": "hub:org/nothing@" + "0" * 40}
    made = Costs(changes(params, ["sft@chat"]), {}, "cpu")
    known = {cost.name: cost for cost in made.all()}
    assert known["sft@chat"].trainable is None and known["sft@chat"].runs
    assert [note.split(": config.json")[0] for note in made.notes] == [params["base"]["source"]]


def test_a_batch_of_another_type_is_refused():
    params = guide()
    params["sft"]["chat"]["trainer"]["per_device_train_batch_size"] = "8"
    with pytest.raises(UserError, match=r"params.yaml: sft.chat.trainer.per_device_train_batch_size: .* got '8'"):
        Costs(changes(params, ["sft@chat"]), {}, "cpu").all()


def test_a_training_and_its_replicas_are_one_line():
    times = [Time(10.0, True), Time(12.0, True), Time(5.0, True)]
    listed = [
        Cost(name, "LoRA r16", True, 100, None, 2.0, 50.0, "params", 7.0, time)
        for name, time in zip(("dpo@chat", "dpo@chat+1", "dpo@other"), times, strict=True)
    ]
    first, second = merged(listed)
    assert (first.name, first.trainable, first.tokens, first.flops, first.bytes) == ("dpo@chat (2)", 100, 100, 14, 2)
    assert first.time == Time(22.0, True) and second is listed[2]
