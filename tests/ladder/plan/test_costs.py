"""Costs of the committed ladder, against the metrics of its last run and numbers worked by hand."""

import json
from pathlib import Path

import pytest

from ladder.pipeline.stage import read_params, read_yaml
from ladder.plan.changes import changes
from ladder.plan.costs import Costs
from ladder.plan.expand import read_lock
from ladder.plan.rows import rows_of


@pytest.fixture(scope="module")
def costs():
    params = read_params()
    return Costs(changes(params), read_lock(), "h200")


def test_trainable_parameters_are_those_of_the_last_run(costs):
    compared = 0
    for cost in costs.all():
        metrics = [path for path in costs.found[cost.name].stage.outs if path.startswith("metrics/")]
        recorded = json.loads(Path(metrics[0]).read_text()) if metrics and Path(metrics[0]).is_file() else {}
        if "trainable_parameters" in recorded and cost.trainable is not None:
            assert (cost.name, cost.trainable) == (cost.name, recorded["trainable_parameters"])
            compared += 1
    assert compared > 20


def test_tokens_are_near_those_of_the_last_run(costs):
    known = {cost.name: cost for cost in costs.all()}
    recorded = json.loads(Path("metrics/sft/maths.json").read_text())
    trained = recorded["tokens_per_second"] * recorded["seconds"]
    assert known["sft@maths"].tokens == pytest.approx(trained, rel=0.35)


def test_rows_by_params(costs):
    def bound(path, split=None):
        return rows_of(path, costs.found, {}, split).rows

    params = read_params()
    prompts, chat = params["prompts"]["count"], params["generate"]["chat"]
    assert bound("data/prompts.jsonl") == sum(prompts.values())
    assert bound("data/prompts.jsonl", "sft") == prompts["sft"]
    assert bound("data/generate/chat.jsonl") == prompts["sft"] * chat["samples"]
    assert bound("data/filter/chat.jsonl") == prompts["sft"]  # best: {per_prompt: 1}


def recipe(name):
    params = read_params()
    for section, entries in read_yaml(Path("recipes") / name).items():
        for entry, values in entries.items():
            params[section] = {**(params[section] or {}), entry: {**(params[section] or {}).get(entry, {}), **values}}
    return params


def test_calls_and_money_of_an_endpoint():
    params = recipe("synthesize.yaml")
    evolved = params["synthesize"]["evolved"]
    evolved["endpoint"]["prices"] = {"prompt": 1.0, "completion": 4.0}
    found = changes(params, ["synthesize@evolved"])
    made = Costs(found, {}, "cpu")
    (endpoint,) = made.cost(found["synthesize@evolved"]).endpoints
    assert endpoint.model == "NAME"
    assert endpoint.calls == min(evolved["rounds"] * evolved["batch"], evolved["budget"]["requests"])
    # 300 tokens are assumed for a prompt
    assert endpoint.money == pytest.approx(endpoint.calls * (300 * 1.0 + evolved["max_new_tokens"] * 4.0) / 1e6)
    evolved["budget"]["money"] = 2.0
    (endpoint,) = Costs(changes(params), {}, "cpu").cost(changes(params)["synthesize@evolved"]).endpoints
    assert endpoint.money == 2.0


def test_an_endpoint_without_prices_has_no_known_money():
    params = recipe("synthesize.yaml")
    found = changes(params, ["synthesize@evolved"])
    (endpoint,) = Costs(found, {}, "cpu").cost(found["synthesize@evolved"]).endpoints
    assert endpoint.money is None
