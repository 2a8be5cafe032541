import json

import numpy as np
import pytest
from scipy import stats

from ladder.data.jsonl import write_json, write_rows
from ladder.eval.measure_seeds import corrected
from ladder.pipeline.stage import UserError, fit
from ladder.seed_statistics import across_seeds
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


def report(folder, *claims, rungs=("sft/maths", "dpo/maths"), seeds=1):
    claimed = {rung for one in claims for rung in (one["rung"], one["against"])} - set(rungs)
    lists = {"heldout": [*rungs, *sorted(claimed - {"chance"})], "accuracy": list(rungs), "divergence": list(SMALL)}
    outputs = [folder / "report" / f"claims.{end}" for end in ("md", "json", "tsv")]
    inputs = [folder / name for name in ("heldout", "accuracy", "divergence", "reward")]
    params = Params(**lists, claims=list(claims), seeds=seeds)
    measured = [
        f"{rung}+{n}" if n else rung
        for rung in params.rungs
        for n in range(seeds if rung not in ("base", "chance") else 1)
    ]
    main(params, *inputs, *outputs, folder / "metrics.json", measured=measured)
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


def solved(*counts):
    """Answers to 60 problems on three seeds: the first `count` are right."""
    return [[bool(met) for met in np.arange(PROMPTS) < count] for count in counts]


@pytest.fixture
def seeded(ladder):
    """Three seeds: dpo solves more than sft on each, ppo more on two, grpo as many as dpo but on one seed few."""
    for name, passing in (
        ("sft", solved(10, 12, 8)),
        ("dpo", solved(30, 36, 27)),
        ("ppo", solved(58, 55, 7)),
        ("grpo", solved(31, 37, 15)),
    ):
        for number, answers in enumerate(passing):
            write_answers(ladder, f"{name}/maths" + (f"+{number}" if number else ""), answers)
    write_answers(ladder, "base", solved(1)[0])
    for number, won in enumerate((45, 48, 40)):
        rung = "dpo/maths" + (f"+{number}" if number else "")
        write_pairs(ladder, rung, np.where(np.arange(PROMPTS) < won, 0.5, -0.5))
        outcomes = [[str(n), float(n < won)] for n in range(PROMPTS)]
        write_json(ladder / "reward" / ("maths" + (f"+{number}" if number else "") + ".json"), {"won": outcomes})
    return ladder


def test_a_claim_over_seeds_has_both_kinds_of_variance(seeded):
    found, page, points = report(seeded, claim("dpo/maths", "sft/maths", "heldout/maths"), seeds=3)
    (one,) = found["claims"]
    change = np.array(solved(30, 36, 27), dtype=float) - np.array(solved(10, 12, 8), dtype=float)
    expected = across_seeds(np.zeros_like(change), change)
    ends = [100 * expected[key] for key in ("difference", "low", "high")]
    assert [one[key] for key in ("difference", "low", "high")] == pytest.approx(ends, abs=1e-4)
    assert one["difference"] == pytest.approx(100 * (20 + 24 + 19) / 180)
    assert one["by_seed"] == pytest.approx([100 * count / 60 for count in (20, 24, 19)], abs=1e-4)
    assert (one["seeds_held"], one["verdict"], one["holds"], one["p_holm"]) == (3, "improved", True, one["p"])
    assert one["value"][0] == pytest.approx(100 * 93 / 180, abs=1e-4)
    header, _, row = [line for line in page.splitlines() if line.startswith("|")][:3]
    assert header.split(" | ")[6:9] == ["p", "p (Holm)", "lowest to highest seed"]
    assert row.endswith("| +31.7 to +40.0 | 60 | improved | holds (3 of 3 seeds) |")
    assert "51.7 [" in row and found["rungs"]["dpo/maths"]["by_seed"]["heldout/maths"] == [50.0, 60.0, 45.0]
    assert "(45.0 to 60.0)" in page and "two-way random-effects model" in page
    assert "dpo/maths+1" not in page and "dpo/maths+1" not in points


def test_a_claim_that_fails_on_one_seed_does_not_hold_and_is_counted(seeded):
    found, page, _ = report(seeded, claim("ppo/maths", "sft/maths", "heldout/maths"), seeds=3)
    (one,) = found["claims"]
    assert (one["seeds_held"], one["holds"], one["verdict"]) == (2, False, "no significant difference")
    assert "| **does not hold** (2 of 3 seeds) |" in page
    # grpo loses 12 problems against dpo on the third seed and gains one on each of the others.
    (other,) = report(seeded, claim("grpo/maths", "dpo/maths", "heldout/maths", not_worse=True), seeds=3)[0]["claims"]
    assert (other["seeds_held"], other["holds"], other["verdict"]) == (2, False, "no significant difference")


def test_a_baseline_that_was_made_once_is_compared_with_every_seed(seeded):
    found, _, _ = report(seeded, claim("sft/maths", "base", "heldout/maths"), seeds=3)
    (one,) = found["claims"]
    assert one["by_seed"] == pytest.approx([100 * count / 60 for count in (9, 11, 7)], abs=1e-4)
    assert one["against_value"] == found["rungs"]["base"]["measures"]["heldout/maths"]
    assert "by_seed" not in found["rungs"]["base"]


def test_shares_of_pairs_over_seeds_are_compared_with_chance(seeded):
    pair = claim("dpo/maths", "chance", "accuracy/maths")
    found, page, _ = report(seeded, pair, claim("reward/maths", "chance", "reward"), seeds=3)
    first, second = found["claims"]
    for one in (first, second):
        assert one["by_seed"] == pytest.approx([100 * (won / 60 - 0.5) for won in (45, 48, 40)], abs=1e-4)
        assert (one["value"][0], one["n"], one["holds"]) == (pytest.approx(100 * 133 / 180, abs=1e-4), 60, True)
    assert first["p_holm"] == pytest.approx(2 * first["p"], rel=1e-2)


def test_holms_correction_covers_all_claims_but_those_of_not_worse(seeded):
    claims = [
        {"p": 0.02, "not_worse": False, "verdict": "improved", "holds": True},
        {"p": 0.03, "not_worse": False, "verdict": "improved", "holds": True},
        {"p": 0.01, "not_worse": True, "verdict": "regressed", "holds": False},
        {"p": None, "not_worse": False, "verdict": "improved", "holds": True},
    ]
    found = corrected(claims)
    assert [one.get("p_holm") for one in found] == [0.04, 0.04, 0.03, None]
    found = corrected([*claims, {"p": 0.04, "not_worse": False, "verdict": "improved", "holds": True}])
    assert [one.get("p_holm") for one in found] == [0.06, 0.06, 0.04, None, 0.06]
    assert [(one["verdict"], one["holds"]) for one in found] == [
        ("no significant difference", False),
        ("no significant difference", False),
        ("regressed", False),
        ("improved", True),
        ("no significant difference", False),
    ]


def test_a_reward_model_without_outcomes_is_measured_again(ladder):
    with pytest.raises(UserError, match="won: missing; expected the outcome of each pair"):
        report(ladder, claim("reward/maths", "chance", "reward"), seeds=2)
