"""Comparisons over several training seeds: intervals that contain the variance over seeds and over prompts.

S seeds of training (and of its data) answer the same N prompts. The differences d_sn = mu + a_s + b_n + e_sn are a
two-way crossed random-effects design: a_s is the effect of the seed, b_n of the prompt, e_sn the rest. With
MS_seeds, MS_prompts and MS_rest, the mean squares of the two-way table,

Var(mean) = var_a / S + var_b / N + var_e / (S N) = (MS_seeds + MS_prompts - MS_rest) / (S N)

(Searle, Casella and McCulloch 1992, "Variance Components", section 4.3; for evaluations of models: Miller 2024, "Adding
Error Bars to Evals", and Madaan et al. 2024, "Quantifying Variance in Evaluation Benchmarks"). The mean divided by its
standard error has Student's t distribution with Satterthwaite's degrees of freedom (Satterthwaite 1946). A bootstrap
over seeds is too narrow for the two to five seeds that are usual: its variance is (S - 1) / S of the unbiased one.
"""

import math
from typing import TypedDict

import numpy as np
from scipy import stats

from ladder.statistics import Array, mcnemar, shaped


class SeedComparison(TypedDict):
    """Second minus first on the same prompts, over several seeds."""

    difference: float
    """Mean over seeds and prompts."""
    low: float
    high: float
    p: float
    smallest: float
    """Smallest difference of one seed."""
    largest: float
    """Largest difference of one seed."""
    verdict: str


class Error(TypedDict):
    """Standard error of a mean over seeds and prompts."""

    standard_error: float
    degrees: float
    """Degrees of freedom of Student's t; 0 where no value differs from another."""


def contributions(passed: Array, asked: Array | None = None) -> Array:
    """Return a value for each prompt [N] whose mean is the score `ladder.statistics.ratio` of the same arrays.

    A ratio of sums R is linearized: N (passed_n - R asked_n) / sum(asked) + R (Cochran 1977, "Sampling Techniques",
    section 6.4). With one question per prompt the values are `passed` itself. Errors: ValueError for a ratio without
    any asked prompt.
    """
    passed_KN, asked_KN = shaped(passed, asked)
    asked_K = asked_KN.sum(axis=1, keepdims=True)
    if not asked_K.all():
        raise ValueError("a ratio without any prompt asked has no value")
    ratio_K = passed_KN.sum(axis=1, keepdims=True) / asked_K
    values_KN = passed_KN.shape[1] * (passed_KN - ratio_K * asked_KN) / asked_K + ratio_K
    return np.asarray(values_KN.mean(axis=0))


def error(values_SN: Array) -> Error:
    """Standard error of the mean of a table [seeds, prompts], with seeds and prompts both drawn at random.

    A component of variance whose estimate is negative counts as 0: then the remaining mean square is used alone. If
    seeds differ by no more than chance, the result is the error of the means of the prompts.
    Errors: ValueError for fewer than two seeds or prompts.
    """
    seeds, prompts = values_SN.shape
    if min(seeds, prompts) < 2:
        raise ValueError(f"expected at least two seeds and two prompts, got {seeds} and {prompts}")
    mean = values_SN.mean()
    by_seed_S, by_prompt_N = values_SN.mean(axis=1), values_SN.mean(axis=0)
    rest_SN = values_SN - by_seed_S[:, None] - by_prompt_N + mean
    degrees = {"seeds": seeds - 1, "prompts": prompts - 1, "rest": (seeds - 1) * (prompts - 1)}
    squares = {
        "seeds": prompts * float(((by_seed_S - mean) ** 2).sum()) / degrees["seeds"],
        "prompts": seeds * float(((by_prompt_N - mean) ** 2).sum()) / degrees["prompts"],
        "rest": float((rest_SN**2).sum()) / degrees["rest"],
    }
    above = [name for name in ("seeds", "prompts") if squares[name] > squares["rest"]]
    signs = {"rest": -1.0} | dict.fromkeys(above, 1.0) if len(above) == 2 else {(above or ["rest"])[0]: 1.0}
    total = sum(sign * squares[name] for name, sign in signs.items())
    if total <= 0:
        return Error(standard_error=0.0, degrees=0.0)
    spread = sum(squares[name] ** 2 / degrees[name] for name in signs)
    return Error(standard_error=math.sqrt(total / (seeds * prompts)), degrees=total**2 / spread)


def interval(values_SN: Array, *, level: float = 0.95) -> tuple[float, float]:
    """Interval of the mean of a table [seeds, prompts]; its width is 0 where no value differs. Errors: as `error`."""
    mean, half = float(values_SN.mean()), _half_width(error(values_SN), level)
    return mean - half, mean + half


def _half_width(found: Error, level: float) -> float:
    if not found["degrees"]:
        return 0.0
    return found["standard_error"] * float(stats.t.ppf((1 + level) / 2, found["degrees"]))


def across_seeds(first_SN: Array, second_SN: Array, *, level: float = 0.95) -> SeedComparison:
    """Compare two models that were each trained with S seeds, on the same prompts.

    first_SN, second_SN: `contributions` of each seed. Row s of both belongs together: a chain of rungs that was trained
    with seed s. A baseline that was trained once, such as a released model, is repeated in every row.
    The verdict is "better" or "worse" only if the interval excludes 0, p < 1 - level, and no seed has a difference of
    the opposite sign; else "no significant difference".
    Errors: ValueError if the shapes differ, and as for `error`.
    """
    if first_SN.shape != second_SN.shape:
        raise ValueError(f"paired results need one shape, got {first_SN.shape} and {second_SN.shape}")
    change_SN = second_SN - first_SN
    difference, by_seed_S, found = float(change_SN.mean()), change_SN.mean(axis=1), error(change_SN)
    half = _half_width(found, level)
    if found["degrees"]:
        p = 2 * float(stats.t.sf(abs(difference) / found["standard_error"], found["degrees"]))
    else:  # every prompt changed alike on every seed
        p = mcnemar(change_SN.shape[1] if difference else 0, 0)
    verdict = "no significant difference"
    if abs(difference) > half and p < 1 - level and (by_seed_S * difference >= 0).all():
        verdict = "better" if difference > 0 else "worse"
    return SeedComparison(
        difference=difference,
        low=difference - half,
        high=difference + half,
        p=p,
        smallest=float(by_seed_S.min()),
        largest=float(by_seed_S.max()),
        verdict=verdict,
    )
