import json

import numpy as np
import pytest
from scipy import stats

from ladder.data.jsonl import write_json, write_rows
from ladder.pipeline.stage import UserError, fit
from stages.claims import Params, main

PROMPTS = 60
SMALL = ("sft/small", "distill/small")
RUNGS = {"dpo/maths": {"method": "dpo", "parent": "sft/maths", "parameters": 200, "trainable_parameters": 5}}


def claim(rung, against, measure, better="higher", **more):
    return {"rung": rung, "against": against, "measure": measure, "better": better, **more}


def write_answers(folder, rung, passing, samples=1, ids=None):
    """Held-out answers, `passing` of them by prompt: True where the prompt's only check is met."""
    rows = [
        {"id": name, "sample": sample, "passed": [met], "finished": True, "tokens": 10}
        for name, met in zip(ids or map(str, range(PROMPTS)), passing, strict=True)
        for sample in range(samples)
    ]
    write_rows(folder / "heldout" / rung / "maths.jsonl", rows)
    write_json(folder / "heldout" / rung / "maths.json", {"made_by": {"rung": RUNGS.get(rung, {})}})


def write_pairs(folder, rung, margins, *, relative=True):
    rows = [
        {"id": str(n), "normalized_margin": margin} | ({"relative_margin": margin} if relative else {})
        for n, margin in enumerate(margins)
    ]
    write_rows(folder / "accuracy" / "maths" / f"{rung}.jsonl", rows)


def write_nats(folder, rung, kl):
    rows = [{"id": str(n), "tokens": 4, "kl": 4 * nats, "cross_entropy": 8.0} for n, nats in enumerate(kl)]
    write_rows(folder / "divergence" / "maths" / f"{rung}.jsonl", rows)


@pytest.fixture
def ladder(tmp_path):
    """sft solves the first 10 of 60 problems, dpo 30, ppo 31, grpo 29; dpo prefers 45 of 60 chosen answers."""
    number = np.arange(PROMPTS)
    for rung, solved in (("sft", 10), ("dpo", 30), ("ppo", 31), ("grpo", 29)):
        write_answers(tmp_path, f"{rung}/maths", [bool(met) for met in number < solved])
    write_pairs(tmp_path, "sft/maths", np.where(number < 30, 0.5, -0.5), relative=False)
    write_pairs(tmp_path, "dpo/maths", np.where(number < 45, 0.5, -0.5))
    for rung, nats in (("sft/small", 1.5), ("distill/small", 0.5)):
        write_nats(tmp_path, rung, nats + 0.01 * (number % 7))
    heldout = {"heldout_accuracy": 75.0, "heldout_low": 63.2, "heldout_high": 84.0, "heldout_pairs": 64}
    reward = {"rung": {"method": "reward", "parent": "base"}}
    write_json(tmp_path / "reward" / "maths.json", {**heldout, "made_by": reward})
    return tmp_path


def report(folder, *claims, rungs=("sft/maths", "dpo/maths")):
    claimed = {rung for one in claims for rung in (one["rung"], one["against"])} - set(rungs)
    lists = {"heldout": [*rungs, *sorted(claimed - {"chance"})], "accuracy": list(rungs), "divergence": list(SMALL)}
    outputs = [folder / "report" / f"claims.{end}" for end in ("md", "json", "tsv")]
    inputs = [folder / name for name in ("heldout", "accuracy", "divergence", "reward")]
    main(Params(**lists, claims=list(claims)), *inputs, *outputs, folder / "metrics.json")
    return json.loads(outputs[1].read_text()), outputs[0].read_text(), outputs[2].read_text()


def test_a_skill_learned_is_reported_with_its_paired_difference(ladder):
    found, page, points = report(ladder, claim("dpo/maths", "sft/maths", "heldout/maths"))
    (one,) = found["claims"]
    assert (one["verdict"], one["holds"], one["n"]) == ("improved", True, 60)
    assert one["value"][0] == 50.0
    assert one["against_value"][0] == pytest.approx(100 / 6, abs=1e-3)
    assert one["difference"] == pytest.approx(100 / 3, abs=1e-3)
    expected = stats.bootstrap(
        ([100.0] * 20 + [0.0] * 40,), np.mean, method="percentile", n_resamples=10_000, rng=np.random.default_rng(1)
    ).confidence_interval
    assert (one["low"], one["high"]) == pytest.approx((expected.low, expected.high), abs=1.7)
    assert one["p"] == pytest.approx(2 * 0.5**20, rel=1e-2)  # McNemar's: 20 of 20 changed prompts were gains
    assert "1 of 1 claims hold" in page
    assert "| dpo/maths | dpo | sft/maths | 5e-06 M (2.5%) | 50.0 [" in page
    assert points.splitlines()[0] == "rung\tmeasure\tvalue\tlow\thigh"
    assert points.splitlines()[2].startswith("dpo/maths\theldout/maths\t50.0\t")


@pytest.mark.parametrize(
    ("rung", "not_worse", "verdict"),
    [
        ("ppo/maths", False, "no significant difference"),
        ("ppo/maths", True, "no significant difference"),
        ("grpo/maths", True, "no significant difference"),
        ("sft/maths", False, "regressed"),
        ("sft/maths", True, "regressed"),
    ],
)
def test_verdicts_against_dpo(ladder, rung, not_worse, verdict):
    found, page, _ = report(ladder, claim(rung, "dpo/maths", "heldout/maths", not_worse=not_worse))
    (one,) = found["claims"]
    assert (one["verdict"], one["holds"]) == (verdict, not_worse and verdict != "regressed")
    assert page.splitlines()[6].endswith(f"| {verdict} | {'holds' if one['holds'] else '**does not hold**'} |")
    assert json.loads((ladder / "metrics.json").read_text()) == {"claims": 1, "hold": int(one["holds"])}


def test_less_divergence_is_an_improvement_and_more_a_regression(ladder):
    for rungs, verdict, difference in (
        (("distill/small", "sft/small"), "improved", -1.0),
        (("sft/small", "distill/small"), "regressed", 1.0),
    ):
        (one,) = report(ladder, claim(*rungs, "divergence/maths", "lower"))[0]["claims"]
        assert (one["verdict"], one["difference"]) == (verdict, difference)  # in nats per token: 4 tokens per row
        assert one["low"] <= one["difference"] <= one["high"]
    (one,) = report(ladder, claim(*rungs, "divergence/maths:cross_entropy", "lower", not_worse=True))[0]["claims"]
    assert (one["value"], one["difference"], one["verdict"]) == ([2.0, 2.0, 2.0], 0.0, "no significant difference")


def test_preference_accuracy_against_chance_and_against_the_reference(ladder):
    claims = [
        claim("dpo/maths", "chance", "accuracy/maths"),
        claim("sft/maths", "chance", "accuracy/maths:normalized"),
        claim("dpo/maths", "sft/maths", "accuracy/maths:normalized"),
    ]
    found, _, _ = report(ladder, *claims)
    assert [one["verdict"] for one in found["claims"]] == ["improved", "no significant difference", "improved"]
    assert [one["difference"] for one in found["claims"]] == [25.0, 0.0, 25.0]
    assert found["claims"][0]["p"] < 0.001  # a sign test: 45 of 60
    assert found["rungs"]["sft/maths"]["measures"].keys() == {"accuracy/maths:normalized"}
    with pytest.raises(UserError, match="sft/maths.jsonl: it has no accuracy/maths; a reference has no margin against"):
        report(ladder, claim("dpo/maths", "sft/maths", "accuracy/maths"))


def test_a_reward_model_against_chance(ladder):
    found, page, _ = report(ladder, claim("reward/maths", "chance", "reward"))
    (one,) = found["claims"]
    assert (one["difference"], one["low"], one["high"], one["p"]) == (25.0, 13.2, 34.0, None)
    assert one["verdict"] == "improved"
    assert "| reward/maths | reward | base |  | 75.0 [63.2, 84.0] |" in page
    with pytest.raises(
        UserError, match=r"reward/dpo/maths.json: no such file; .*; only a rung of the stage reward has"
    ):
        report(ladder, claim("dpo/maths", "chance", "reward"))


def test_samples_of_one_prompt_are_one_cluster(ladder):
    """Repeating every answer four times must not narrow the interval."""
    number = range(PROMPTS)
    write_answers(ladder, "one/maths", [n < 10 for n in number], samples=4)
    write_answers(ladder, "two/maths", [n < 30 for n in number], samples=4)
    single = report(ladder, claim("dpo/maths", "sft/maths", "heldout/maths"))[0]["claims"][0]
    four = report(ladder, claim("two/maths", "one/maths", "heldout/maths"))[0]["claims"][0]
    assert [four[key] for key in ("difference", "low", "high", "value")] == [
        single[key] for key in ("difference", "low", "high", "value")
    ]
    with pytest.raises(UserError, match="two/maths and sft/maths were not measured on the same rows"):
        report(ladder, claim("two/maths", "sft/maths", "heldout/maths"))


def test_absent_numbers_stay_absent_and_the_same_files_give_the_same_bytes(ladder):
    found, page, points = report(ladder, claim("dpo/maths", "sft/maths", "heldout/maths"), rungs=["base", "dpo/maths"])
    assert found["rungs"]["base"] == {"measures": {}}
    assert list(found["rungs"]) == ["base", "dpo/maths", "sft/maths", *SMALL]
    assert "| base |  |  |  |  |" in page
    assert (page, points) == report(
        ladder, claim("dpo/maths", "sft/maths", "heldout/maths"), rungs=["base", "dpo/maths"]
    )[1:]


def test_other_prompts_and_missing_files_are_refused(ladder):
    write_answers(ladder, "other/maths", [True] * PROMPTS, ids=[f"x{n}" for n in range(PROMPTS)])
    with pytest.raises(UserError, match="heldout/maths: other/maths and sft/maths were not measured on the same rows"):
        report(ladder, claim("other/maths", "sft/maths", "heldout/maths"))
    with pytest.raises(UserError, match=r"heldout/none/maths.jsonl: no such file; a claim compares none on"):
        report(ladder, claim("none", "sft/maths", "heldout/maths"))
    write_rows(ladder / "divergence" / "maths" / "sft" / "small.jsonl", [{"id": "0", "tokens": 4, "kl": None}])
    with pytest.raises(UserError, match=r"small.jsonl: row 1: expected numbers for KL"):
        report(ladder, claim("sft/small", "distill/small", "divergence/maths", "lower"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            claim("a", "b", "ifeval"),
            "expected a folder of heldout, accuracy, divergence with measured rows, got 'ifeval'",
        ),
        (
            claim("a", "c", "heldout/maths"),
            "claims.claims: c is compared on heldout/maths, but is not among claims.heldout",
        ),
        (claim("a", "chance", "accuracy"), "a is compared on accuracy, but is not among claims.accuracy"),
        (claim("a", "b", "heldout/maths:speed"), "heldout: expected one of pass, reward, finish, tokens, got 'speed'"),
        (claim("a", "b", "divergence/maths"), "divergence/maths is better lower"),
        (claim("a", "chance", "heldout/maths"), "chance is known for accuracy and reward, not for heldout/maths"),
        (claim("a", "b", "reward"), "reward: expected against: chance"),
        (claim("a", "b", "heldout/maths", "more"), "claims.0.better: expected 'higher' or 'lower'"),
    ],
)
def test_a_claim_that_means_nothing_is_refused(given, said):
    with pytest.raises(UserError) as refusal:
        fit(Params, {"heldout": ["a", "b"], "accuracy": ["b"], "divergence": ["b"], "claims": [given]}, "claims")
    assert said in str(refusal.value)
