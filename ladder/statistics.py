"""How sure a score is: intervals by bootstrap over prompts, and paired comparisons of two models.

A score is a ratio of sums over prompts, sum(passed) / sum(asked). Prompts are what was sampled, so prompts are
what is resampled: the instructions of one prompt stay together (a cluster bootstrap).
Arrays have shape (N,), N prompts, or (K, N) for the mean of K such ratios. Results are fractions, not percent.
"""

import math
from collections.abc import Iterator
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Array = NDArray[np.float64]
_DRAWS_AT_ONCE = 4_000_000


class Comparison(TypedDict):
    """A paired comparison: second minus first on the same prompts."""

    difference: float
    low: float
    high: float
    p: float
    gained: int
    lost: int
    verdict: str


def ratio(passed: Array, asked: Array | None = None) -> float:
    """The score itself: sum(passed) / sum(asked), averaged over K. asked=None: the plain mean."""
    passed_KN, asked_KN = _shaped(passed, asked)
    return float((passed_KN.sum(axis=1) / asked_KN.sum(axis=1)).mean())


def won(margins: Array) -> Array:
    """1 where a margin is above 0, 0 below, 1/2 for a tie; any shape."""
    return (1 + np.sign(margins)) / 2


def interval(
    passed: Array, asked: Array | None = None, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of `ratio` (Efron and Tibshirani 1993, section 13.3).

    For shares, 0 <= passed <= asked. When every prompt passed in full or none passed anything, all resamples are
    alike and the bootstrap would claim certainty; Wilson's interval for N prompts stands in there.
    """
    passed_KN, asked_KN = _shaped(passed, asked)
    for share in (0.0, 1.0):
        if (passed_KN == share * asked_KN).all():
            return wilson(round(share * passed_KN.shape[1]), passed_KN.shape[1], level=level)
    return _percentiles(passed_KN, asked_KN, level, resamples, seed)


def bootstrap(
    values: Array, weights: Array | None = None, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """The same for values that are no shares, such as nats or tokens: no stand-in where all are alike."""
    return _percentiles(*_shaped(values, weights), level, resamples, seed)


def wilson(passed: int, asked: int, *, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927)."""
    z = float(special.ndtri((1 + level) / 2))
    centre = (passed + z**2 / 2) / (asked + z**2)
    half = z / (asked + z**2) * math.sqrt(passed * (asked - passed) / asked + z**2 / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


def paired(
    first: Array,
    second: Array,
    asked: Array | None = None,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare two models on the same prompts, prompt by prompt.

    The interval is the bootstrap of the difference; p (two-sided) is of the test that swaps the two models'
    results on a prompt at random. For 0/1 results of one ratio that test is McNemar's and p is exact (binomial);
    otherwise it is drawn `resamples` times (Phipson and Smyth 2010: never 0).
    gained, lost: prompts on which row 0 rose or fell.
    verdict: "better" or "worse" only if the interval excludes 0 and p < 1 - level; else "not distinguishable".
    Errors: ValueError if the shapes differ.
    """
    first_KN, asked_KN = _shaped(first, asked)
    second_KN, _ = _shaped(second, asked)
    if first_KN.shape != second_KN.shape:
        raise ValueError(f"paired results need one shape, got {first_KN.shape} and {second_KN.shape}")
    change_KN = second_KN - first_KN
    gained, lost = int((change_KN[0] > 0).sum()), int((change_KN[0] < 0).sum())
    difference = ratio(change_KN, asked_KN)
    low, high = _percentiles(change_KN, asked_KN, level, resamples, seed)
    binary = len(change_KN) == 1 and bool(np.isin([first_KN, second_KN], (0, 1)).all() and (asked_KN == 1).all())
    p = mcnemar(gained, lost) if binary else _swapped(change_KN, asked_KN, resamples, seed)
    verdict = "not distinguishable"
    if (low > 0 or high < 0) and p < 1 - level:
        verdict = "better" if difference > 0 else "worse"
    return Comparison(difference=difference, low=low, high=high, p=p, gained=gained, lost=lost, verdict=verdict)


def mcnemar(gained: int, lost: int) -> float:
    """McNemar's exact two-sided p: of gained + lost changed prompts, half are expected to be gains."""
    if gained == lost:
        return 1.0
    return float(stats.binomtest(gained, gained + lost, 0.5).pvalue)


def _shaped(passed: Array, asked: Array | None) -> tuple[Array, Array]:
    passed_KN = np.atleast_2d(np.asarray(passed, dtype=float))
    asked_KN = np.ones_like(passed_KN) if asked is None else np.atleast_2d(np.asarray(asked, dtype=float))
    if passed_KN.shape != asked_KN.shape or not passed_KN.size:
        raise ValueError(f"expected results and counts of one shape, got {passed_KN.shape} and {asked_KN.shape}")
    return passed_KN, asked_KN


def _percentiles(passed_KN: Array, asked_KN: Array, level: float, resamples: int, seed: int) -> tuple[float, float]:
    prompts = passed_KN.shape[1]
    generator = np.random.default_rng(seed)
    means = []
    for size in _portions(resamples, prompts):
        index_RN = generator.integers(0, prompts, (size, prompts))
        ratios_KR = [
            passed_N[index_RN].sum(axis=1) / asked_N[index_RN].sum(axis=1)
            for passed_N, asked_N in zip(passed_KN, asked_KN, strict=True)
        ]
        means.append(np.mean(ratios_KR, axis=0))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _swapped(change_KN: Array, asked_KN: Array, resamples: int, seed: int) -> float:
    change_N = (change_KN / asked_KN.sum(axis=1, keepdims=True)).mean(axis=0)
    observed = abs(change_N.sum())
    change_N = change_N[change_N != 0]
    generator = np.random.default_rng(seed)
    as_far = 0
    for size in _portions(resamples, len(change_N)):
        signs_RN = generator.integers(0, 2, (size, len(change_N))) * 2 - 1
        # Ties count as "as far"; sums of the same terms in another order differ by rounding.
        as_far += int((np.abs(signs_RN @ change_N) >= observed - 1e-12).sum())
    return (as_far + 1) / (resamples + 1)


def _portions(resamples: int, prompts: int) -> Iterator[int]:
    """Split the resamples so that one portion's draws fit in tens of megabytes."""
    most = max(1, _DRAWS_AT_ONCE // max(1, prompts))
    for start in range(0, resamples, most):
        yield min(most, resamples - start)
