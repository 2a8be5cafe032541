"""Confidence intervals by bootstrap over prompts, and paired comparisons of two models.

A score is a ratio of sums over prompts, sum(passed) / sum(asked). Prompts are the sampling unit, so prompts are
resampled: the instructions of one prompt stay together (a cluster bootstrap). Arrays have shape (N,) for N prompts,
or (K, N) for the mean of K ratios. Results are fractions, not percent. A prompt that does not belong to a ratio has 0
in both of its arrays.
"""

import math
from collections.abc import Iterator
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Array = NDArray[np.float64]
_DRAWS_AT_ONCE = 4_000_000
IMPROVED, REGRESSED, UNCHANGED = "improved", "regressed", "no significant difference"
"""Verdicts of a comparison."""
OPPOSITE = {IMPROVED: REGRESSED, REGRESSED: IMPROVED, UNCHANGED: UNCHANGED}
"""Verdict for a score that is better when it is lower."""


class Comparison(TypedDict):
    """Paired comparison: second minus first on the same prompts."""

    difference: float
    low: float
    high: float
    p: float
    gained: int
    lost: int
    verdict: str


def ratio(passed: Array, asked: Array | None = None) -> float:
    """Return the score sum(passed) / sum(asked), averaged over K. asked=None: the plain mean."""
    return _mean(*shaped(passed, asked))


def won(margins: Array) -> Array:
    """Return 1 where a margin is above 0, 0 where it is below, and 1/2 for a tie; any shape."""
    return (1 + np.sign(margins)) / 2


def interval(
    passed: Array, asked: Array | None = None, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of `ratio` (Efron and Tibshirani 1993, section 13.3).

    Requires shares: 0 <= passed <= asked. If all prompts pass fully, or none passes anything, all resamples are equal
    and the bootstrap interval has zero width. Wilson's interval for the number of prompts asked replaces it in that
    case.
    """
    passed_KN, asked_KN = shaped(passed, asked)
    prompts = int(asked_KN.any(axis=0).sum())
    for share in (0.0, 1.0):
        if (passed_KN == share * asked_KN).all():
            return wilson(round(share * prompts), prompts, level=level)
    return _percentiles([(passed_KN, asked_KN)], level, resamples, seed)


def bootstrap(
    values: Array, weights: Array | None = None, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of a ratio of sums, for values that are not shares, such as nats or tokens.

    Unlike `interval`, it has no fallback for equal values: its width is then zero.
    """
    return _percentiles([shaped(values, weights)], level, resamples, seed)


def wilson(passed: int, asked: int, *, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927)."""
    z = float(special.ndtri((1 + level) / 2))
    center = (passed + z**2 / 2) / (asked + z**2)
    half = z / (asked + z**2) * math.sqrt(passed * (asked - passed) / asked + z**2 / 4)
    return max(0.0, center - half), min(1.0, center + half)


def paired(
    first: Array,
    second: Array,
    asked: Array | None = None,
    second_asked: Array | None = None,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare two models on the same prompts, prompt by prompt.

    second_asked: counts of the second model, if they differ from those of the first (`asked`).
    The interval is the bootstrap interval of the difference. p (two-sided) is from the permutation test that swaps
    the two models' results on a prompt at random. For 0/1 results of one ratio that test is McNemar's, and p is exact
    (binomial). Otherwise it is estimated from `resamples` draws (Phipson and Smyth 2010: never 0).
    gained, lost: number of prompts on which row 0 rose or fell.
    verdict: IMPROVED or REGRESSED only if the interval excludes 0 and p < 1 - level; else UNCHANGED.
    Errors: ValueError if the shapes differ.
    """
    first_KN, first_asked_KN = shaped(first, asked)
    second_KN, second_asked_KN = shaped(second, asked if second_asked is None else second_asked)
    if first_KN.shape != second_KN.shape:
        raise ValueError(f"expected paired results of one shape, got {first_KN.shape} and {second_KN.shape}")
    change_KN = second_KN - first_KN
    gained, lost = int((change_KN[0] > 0).sum()), int((change_KN[0] < 0).sum())
    terms = [(change_KN, first_asked_KN)]
    if not np.array_equal(first_asked_KN, second_asked_KN):
        terms = [(second_KN, second_asked_KN), (-first_KN, first_asked_KN)]
    difference = sum(_mean(*term) for term in terms)
    low, high = _percentiles(terms, level, resamples, seed)
    if passes(first_KN, first_asked_KN) and passes(second_KN, second_asked_KN):
        p = mcnemar(gained, lost)
    else:
        p = _swapped(first_KN, second_KN, first_asked_KN, second_asked_KN, resamples, seed)
    verdict = UNCHANGED
    if (low > 0 or high < 0) and p < 1 - level:
        verdict = IMPROVED if difference > 0 else REGRESSED
    return Comparison(difference=difference, low=low, high=high, p=p, gained=gained, lost=lost, verdict=verdict)


def passes(passed: Array, asked: Array | None = None) -> bool:
    """Return whether the results are binary, one per prompt, and of a single ratio, as McNemar's test requires."""
    passed_KN, asked_KN = shaped(passed, asked)
    return len(passed_KN) == 1 and bool(np.isin(passed_KN, (0, 1)).all() and (asked_KN == 1).all())


def mcnemar(gained: int, lost: int) -> float:
    """Return McNemar's exact two-sided p. Under the null hypothesis, half of the gained + lost prompts are gains."""
    if gained == lost:
        return 1.0
    return float(stats.binomtest(gained, gained + lost, 0.5).pvalue)


def holm(p: list[float]) -> list[float]:
    """Return Holm's step-down adjusted p values of a family of tests, in the given order (Holm 1979).

    Each adjusted value may be compared with alpha. The probability of one or more false rejections in the family is
    then at most alpha, under any dependence between the tests. Errors: ValueError for a value that is not between 0
    and 1.
    """
    if not all(0 <= one <= 1 for one in p):
        raise ValueError(f"expected probabilities, got {p}")
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = largest
    return adjusted


def shaped(passed: Array, asked: Array | None) -> tuple[Array, Array]:
    """Return results and counts as arrays [K, N]; without counts each is 1. Errors: ValueError for unlike shapes."""
    passed_KN = np.atleast_2d(np.asarray(passed, dtype=float))
    asked_KN = np.ones_like(passed_KN) if asked is None else np.atleast_2d(np.asarray(asked, dtype=float))
    if passed_KN.shape != asked_KN.shape or not passed_KN.size:
        raise ValueError(f"expected results and counts of one shape, got {passed_KN.shape} and {asked_KN.shape}")
    return passed_KN, asked_KN


def _mean(passed_KN: Array, asked_KN: Array) -> float:
    asked_K = asked_KN.sum(axis=1)
    if not asked_K.all():
        raise ValueError("a ratio without any prompt asked has no value")
    return float((passed_KN.sum(axis=1) / asked_K).mean())


def _percentiles(terms: list[tuple[Array, Array]], level: float, resamples: int, seed: int) -> tuple[float, float]:
    """Return the percentile interval of the sum of the terms, each the mean of K ratios.

    A resample in which a ratio has no asked prompt has no value and is dropped.
    """
    prompts = terms[0][0].shape[1]
    generator = np.random.default_rng(seed)
    sums = []
    for size in _portions(resamples, prompts):
        index_RN = generator.integers(0, prompts, (size, prompts))
        sums.append(np.sum([_resampled(*term, index_RN) for term in terms], axis=0))
    low, high = np.nanquantile(np.concatenate(sums), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _resampled(passed_KN: Array, asked_KN: Array, index_RN: NDArray[np.int64]) -> Array:
    with np.errstate(invalid="ignore"):
        ratios_KR = [
            passed_N[index_RN].sum(axis=1) / asked_N[index_RN].sum(axis=1)
            for passed_N, asked_N in zip(passed_KN, asked_KN, strict=True)
        ]
    return np.asarray(np.mean(ratios_KR, axis=0))


def _swapped(
    first_KN: Array, second_KN: Array, first_asked_KN: Array, second_asked_KN: Array, resamples: int, seed: int
) -> float:
    """Return p of the permutation test that swaps the two results of a prompt (passed and asked) at random."""
    passed_KN, asked_KN = second_KN - first_KN, second_asked_KN - first_asked_KN
    passed_K, asked_K = (first_KN + second_KN).sum(axis=1), (first_asked_KN + second_asked_KN).sum(axis=1)
    moved = (passed_KN != 0).any(axis=0) | (asked_KN != 0).any(axis=0)
    passed_KN, asked_KN = passed_KN[:, moved], asked_KN[:, moved]

    def differences(signs_RN: NDArray[Any]) -> Array:
        passed_RK, asked_RK = signs_RN @ passed_KN.T, signs_RN @ asked_KN.T
        second_RK = (passed_K + passed_RK) / (asked_K + asked_RK)
        first_RK = (passed_K - passed_RK) / (asked_K - asked_RK)
        return np.abs((second_RK - first_RK).mean(axis=1))

    observed = differences(np.ones((1, passed_KN.shape[1])))[0]
    generator = np.random.default_rng(seed)
    as_far = 0
    for size in _portions(resamples, passed_KN.shape[1]):
        signs_RN = generator.integers(0, 2, (size, passed_KN.shape[1])) * 2 - 1
        # Ties count as extreme. The tolerance covers rounding: sums of the same terms depend on their order.
        as_far += int((differences(signs_RN) >= observed - 1e-12).sum())
    return (as_far + 1) / (resamples + 1)


def _portions(resamples: int, prompts: int) -> Iterator[int]:
    """Split the resamples into portions whose draws fit in tens of megabytes."""
    most = max(1, _DRAWS_AT_ONCE // max(1, prompts))
    for start in range(0, resamples, most):
        yield min(most, resamples - start)
