"""Measures of held-out rows over several seeds: means, comparisons, and claims that must hold on every seed.

ladder/seed_statistics.py has the method and its source.
"""

from typing import Any, TypedDict

import numpy as np

from ladder import seed_statistics
from ladder.eval.compare import ALPHA
from ladder.eval.compare_seeds import verdict_over_seeds
from ladder.eval.measures import Scores, compare
from ladder.statistics import IMPROVED, REGRESSED, UNCHANGED, Array, holm


class SeedComparison(TypedDict):
    """Second minus first over several seeds, in the unit of a measure."""

    difference: float
    low: float
    high: float
    p: float
    verdict: str
    by_seed: list[float]
    """Difference of each seed."""


def mean_of_seeds(found: list[Scores]) -> tuple[float, float, float]:
    """Return the mean of a measure over seeds with its 95% interval, in the measure's unit.

    Errors: ValueError when the rows are not the same.
    """
    measure, values_SN = found[0].measure, _table(found)
    low, high = (measure.scale * end for end in seed_statistics.interval(values_SN))
    if low == high:  # every prompt has the same value on every seed
        low, high = found[0].interval
    return measure.scale * float(values_SN.mean()), *(
        (max(low, 0.0), min(high, 100.0)) if measure.share else (low, high)
    )


def compare_measures(first: list[Scores], second: list[Scores]) -> SeedComparison:
    """Compare a measure of two rungs over seeds: second minus first, in the measure's unit and direction.

    Errors: ValueError when the rows are not the same.
    """
    measure, first_SN, second_SN = second[0].measure, _table(first), _table(second)
    found = seed_statistics.across_seeds(first_SN, second_SN)
    return SeedComparison(
        difference=measure.scale * found["difference"],
        low=measure.scale * found["low"],
        high=measure.scale * found["high"],
        p=found["p"],
        verdict=verdict_over_seeds(found, measure.better),
        by_seed=[measure.scale * float(one) for one in (second_SN - first_SN).mean(axis=1)],
    )


def _table(found: list[Scores]) -> Array:
    """Return the values [seeds, prompts] whose means are the scores of the seeds."""
    if any(one.ids != found[0].ids for one in found) or len(found[0].ids) < 2:
        raise ValueError("expected scores of the same rows, at least two")
    return np.array([seed_statistics.contributions(one.values, one.weights) for one in found])


def judged_over_seeds(first: list[Scores], second: list[Scores], *, not_worse: bool) -> dict[str, Any]:
    """Evaluate whether the second is better than the first, or not worse: over all seeds together and on each.

    On one seed, a rung is better if its value is, and not worse unless it regressed in the paired test of that seed.
    Errors: ValueError when the rows are not the same.
    """
    found, better = compare_measures(first, second), second[0].measure.better
    verdict, sign = found["verdict"], 1 if better == "higher" else -1
    if not_worse:
        held = [compare(*pair)["verdict"] != REGRESSED for pair in zip(first, second, strict=True)]
    else:
        held = [sign * difference > 0 for difference in found["by_seed"]]
    return {
        "difference": round(found["difference"], 4),
        "low": round(found["low"], 4),
        "high": round(found["high"], 4),
        "p": float(f"{found['p']:.3g}"),
        "n": len(second[0].ids),
        "by_seed": [round(difference, 4) for difference in found["by_seed"]],
        "seeds_held": sum(held),
        "verdict": verdict,
        "holds": (verdict != REGRESSED if not_worse else verdict == IMPROVED) and all(held),
    }


def corrected(claims: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add p with Holm's correction over all claims, and apply it to verdicts.

    A claim that a rung is not worse keeps its verdict: a correction would make it easier to hold.
    """
    tested = [claim["p"] for claim in claims if claim["p"] is not None]
    adjusted = iter(holm(tested))
    return [claim if claim["p"] is None else _corrected(claim, next(adjusted)) for claim in claims]


def _corrected(claim: dict[str, Any], p: float) -> dict[str, Any]:
    fails = p >= ALPHA and not claim["not_worse"]
    return {**claim, "p_holm": float(f"{p:.3g}"), **({"verdict": UNCHANGED, "holds": False} if fails else {})}
