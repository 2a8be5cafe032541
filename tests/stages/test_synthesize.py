"""The stage with a local rung, and with a real server on this machine."""

import json
from pathlib import Path

import pytest

from conftest import user
from endpoints import Said, serving
from ladder.data.jsonl import read_rows, write_rows
from ladder.pipeline.stage import UserError, fit
from ladder.synthesis.rejection_sampling import Draws, asked
from stages import generate
from stages.synthesize import Params, main

PROMPTS = Path(__file__).parents[2] / "prompts"
COMMON = {"model": "base", "endpoint": None, "seeds": "seeds", "split": "sft", "count": 6, "rounds": 2, "batch": 4,
          "novelty": 0.7, "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 200, "seed": 0}  # fmt: skip
METHODS = {
    "self_instruct": {},
    "evolve": {"novelty": None, "operations": ["deepen", "constrain", "concretize", "reason", "breadth"]},
    "persona": {"personas": "inferred"},
}


def outputs(folder):
    return [folder / name for name in ("new.jsonl", "new.rejected.jsonl", "new.json")]


def synthesize(folder, model, method, **changed):
    seeds = folder / "seeds.jsonl"
    words = ["owls", "rivers", "chess", "bread", "snow", "debts", "sleep", "maps", "tea", "law"]
    write_rows(
        seeds, [{"id": word, "split": "sft", "prompt": user(f"{word} {n}{n} {n}?")} for n, word in enumerate(words)]
    )
    params = fit(Params, {**COMMON, "method": method, **METHODS[method], **changed}, f"synthesize.{method}")
    main(params, PROMPTS / method, seeds, model, model, *outputs(folder))
    return read_rows(folder / "new.jsonl")


def replying(body, before):
    """Reply stub: a verdict to the judge; to any other request, words that depend on the request and its seed."""
    text = body["messages"][-1]["content"]
    if "SAME or DIFFERENT" in text:
        return Said("DIFFERENT")
    own = sum(map(ord, text)) * 7919 + body.get("seed", 0)
    return Said(" ".join(f"{letter}{own % 100003}" for letter in "abcde"))


@pytest.fixture
def endpoint(tmp_path, monkeypatch):
    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "work"))
    with serving(replying) as server:
        yield server, {"base_url": server.base_url, "model": "scripted"}


@pytest.mark.parametrize("method", ["self_instruct", "persona"])
def test_a_rung_makes_prompts_that_generate_reads(tmp_path, base, method, monkeypatch):
    rows = synthesize(tmp_path, base, method, rounds=1)
    assert [row["id"] for row in rows] == [f"new-{n:05d}" for n in range(len(rows))]
    assert {row["source"]["method"] for row in rows} == {method}
    draws = Draws(split="sft", samples=1, temperature=1.0, top_p=1.0, max_new_tokens=5, seed=0)
    assert asked(draws, tmp_path / "new.jsonl") == rows
    metrics = json.loads((tmp_path / "new.json").read_text())
    rejected = [json.loads(line) for line in (tmp_path / "new.rejected.jsonl").read_text("utf-8").splitlines()]
    assert metrics["kept"] == len(rows)
    assert sum(metrics["rejected"].values()) == len(rejected)
    assert metrics["requests"] >= len(rows)
    before = [path.read_bytes() for path in outputs(tmp_path)]
    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "of another machine"))  # generated again, not from the cache
    synthesize(tmp_path, base, method, rounds=1)
    assert [path.read_bytes() for path in outputs(tmp_path)] == before


@pytest.mark.parametrize("method", METHODS)
def test_an_endpoint_serves_every_method_and_the_bytes_are_the_same_again(tmp_path, endpoint, method):
    server, where = endpoint
    for name in ("one", "two", "other"):
        (tmp_path / name).mkdir()
        rows = synthesize(tmp_path / name, tmp_path, method, endpoint=where, seed=int(name == "other"))
        assert len(rows) == 8
        assert {row["source"]["model"] for row in rows} == {"scripted"}
        if name == "one":
            bought = len(server.asked)
        if name == "two":
            assert len(server.asked) == bought  # every reply was cached
    one, two, other = ([path.read_bytes() for path in outputs(tmp_path / name)] for name in ("one", "two", "other"))
    assert one == two
    assert one[0] != other[0]


def test_a_run_that_ended_early_goes_on_and_buys_nothing_twice(tmp_path, endpoint):
    server, where = endpoint
    with pytest.raises(UserError, match="budget of 13 requests is spent"):
        synthesize(tmp_path, tmp_path, "evolve", endpoint=where, budget={"requests": 13})
    assert not any(path.exists() for path in outputs(tmp_path))
    assert len(server.asked) == 13
    synthesize(tmp_path, tmp_path, "evolve", endpoint=where)
    asked_for = [json.dumps(body, sort_keys=True) for body in server.asked]
    assert len(asked_for) == len(set(asked_for)) == 2 * 3 * 4


def test_what_evolved_was_answered_greedily_and_generate_buys_no_answer_again(tmp_path, endpoint):
    server, where = endpoint
    rows = synthesize(tmp_path, tmp_path, "evolve", endpoint=where, temperature=0.0)
    bought = len(server.asked)
    params = generate.Params(
        prompts="synthesize/new", model="base", endpoint=where, split="sft", samples=2, temperature=0.0, top_p=1.0,
        max_new_tokens=200, seed=7, edits=False,
    )  # fmt: skip
    generate.main(
        params, tmp_path / "new.jsonl", tmp_path, tmp_path, tmp_path / "answered.jsonl", tmp_path / "answered.json"
    )
    assert len(read_rows(tmp_path / "answered.jsonl")) == 2 * len(rows) > 0
    assert len(server.asked) == bought
    assert len({json.dumps(body, sort_keys=True) for body in server.asked}) == bought


def test_where_no_evolution_is_left_the_judge_is_not_asked(tmp_path, base):
    with pytest.raises(UserError, match="no row is left: finished 8. See the texts"):
        synthesize(tmp_path, base, "evolve", max_new_tokens=2)


def test_an_empty_result_is_refused_and_the_ledger_reports_why(tmp_path, endpoint):
    server, where = endpoint
    server.answering = lambda body, before: Said("Hm.")
    with pytest.raises(
        UserError, match="new.jsonl: no row is left: length 8. See the texts .* in .*new.rejected.jsonl"
    ):
        synthesize(tmp_path, tmp_path, "self_instruct", endpoint=where)
    assert [row["reason"] for row in read_rows(tmp_path / "new.rejected.jsonl")] == ["1 words"] * 8
    assert not (tmp_path / "new.jsonl").exists()


@pytest.mark.parametrize(
    ("method", "changed", "said"),
    [
        ("evolve", {"operations": []}, "operations: expected with method evolve only"),
        ("persona", {"operations": ["deepen"]}, "operations: expected with method evolve only"),
        ("self_instruct", {"personas": "listed"}, "personas: expected with method persona only"),
        ("persona", {"personas": "met"}, "synthesize.persona.personas: expected 'listed', 'inferred' or"),
        ("evolve", {"novelty": 1.5}, "synthesize.evolve.novelty"),
        ("evolve", {"budget": {"requests": 3}}, "budget: no effect without an endpoint"),
    ],
)
def test_params_that_do_not_fit_are_named(tmp_path, method, changed, said):
    with pytest.raises(UserError) as refusal:
        synthesize(tmp_path, tmp_path, method, **changed)
    assert said in str(refusal.value)
