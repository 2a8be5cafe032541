import itertools
import math

import numpy as np
import pytest
from scipy import stats

from ladder import statistics

GENERATOR = np.random.default_rng(7)
FIRST = (GENERATOR.random(541) < 0.25).astype(float)
SECOND = np.where(GENERATOR.random(541) < 0.2, 1 - FIRST, FIRST)
ASKED = GENERATOR.integers(1, 4, 541).astype(float)
PASSED = np.floor(GENERATOR.random(541) * (ASKED + 1))


def test_ratio_by_hand() -> None:
    assert statistics.ratio(np.array([1.0, 0, 1, 0])) == 0.5
    assert statistics.ratio(np.array([2.0, 1]), np.array([3.0, 1])) == 0.75
    assert statistics.ratio(np.array([[0.0, 1], [2, 1]]), np.array([[1.0, 1], [3, 1]])) == (0.5 + 0.75) / 2


def test_interval_is_scipys_percentile_bootstrap() -> None:
    expected = stats.bootstrap((FIRST,), np.mean, method="percentile", n_resamples=10_000, rng=np.random.default_rng(0))
    assert statistics.interval(FIRST) == pytest.approx(tuple(expected.confidence_interval), abs=1e-12)


def test_cluster_interval_is_scipys_over_prompts() -> None:
    expected = stats.bootstrap(
        (PASSED, ASKED),
        lambda passed, asked, axis: passed.sum(axis=axis) / asked.sum(axis=axis),
        paired=True,
        method="percentile",
        n_resamples=2_000,
        rng=np.random.default_rng(3),
    )
    found = statistics.interval(PASSED, ASKED, resamples=2_000, seed=3)
    assert found == pytest.approx(tuple(expected.confidence_interval), abs=1e-12)


def test_drawing_in_portions_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = statistics.interval(PASSED, ASKED), statistics.paired(PASSED, ASKED - PASSED, ASKED)
    monkeypatch.setattr(statistics, "_DRAWS_AT_ONCE", 54_100)
    assert (statistics.interval(PASSED, ASKED), statistics.paired(PASSED, ASKED - PASSED, ASKED)) == whole


@pytest.mark.parametrize(("passed", "asked"), [(0, 48), (11, 48), (48, 48)])
def test_wilson_is_scipys(passed: int, asked: int) -> None:
    expected = stats.binomtest(passed, asked).proportion_ci(method="wilson")
    assert statistics.wilson(passed, asked) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_bootstrap_and_wilson_agree_on_a_proportion() -> None:
    passed = int(FIRST.sum())
    assert statistics.interval(FIRST) == pytest.approx(statistics.wilson(passed, 541), abs=0.006)


def test_nothing_passed_is_not_certainty() -> None:
    assert statistics.interval(np.zeros((2, 48)), np.full((2, 48), 2.0)) == statistics.wilson(0, 48)
    assert statistics.interval(np.ones(48)) == statistics.wilson(48, 48)


def test_mcnemar_by_hand_and_as_published() -> None:
    assert statistics.mcnemar(10, 2) == pytest.approx(2 * (1 + 12 + 66) / 2**12)
    assert statistics.mcnemar(0, 0) == statistics.mcnemar(5, 5) == 1.0
    # Agresti's approval ratings (86 and 150 changed their mind), as R's exact2x2 prints it.
    assert statistics.mcnemar(86, 150) == pytest.approx(3.716e-05, abs=5e-9)


def test_mcnemar_is_statsmodels() -> None:
    tables = pytest.importorskip("statsmodels.stats.contingency_tables", reason="needs statsmodels (extra dev)")
    for gained, lost in [(3, 11), (11, 3), (0, 7), (40, 41)]:
        expected = tables.mcnemar([[9, gained], [lost, 9]], exact=True).pvalue
        assert statistics.mcnemar(gained, lost) == pytest.approx(expected, abs=1e-12)


def test_paired_interval_is_the_bootstrap_of_the_differences() -> None:
    found = statistics.paired(FIRST, SECOND)
    expected = stats.bootstrap(
        (SECOND - FIRST,), np.mean, method="percentile", n_resamples=10_000, rng=np.random.default_rng(0)
    )
    assert (found["low"], found["high"]) == pytest.approx(tuple(expected.confidence_interval), abs=1e-12)
    gained, lost = int(((FIRST == 0) & (SECOND == 1)).sum()), int(((FIRST == 1) & (SECOND == 0)).sum())
    assert (found["gained"], found["lost"]) == (gained, lost)
    assert found["difference"] == pytest.approx((gained - lost) / 541)
    assert found["p"] == statistics.mcnemar(gained, lost)


def test_swap_test_is_the_enumeration_of_all_swaps() -> None:
    first = np.array([0.0, 1, 0, 2, 1, 0, 1, 0])
    second = np.array([2.0, 1, 1, 1, 2, 1, 2, 1])
    asked = np.full(8, 2.0)
    change = second - first
    sums = [abs(np.dot(signs, change)) for signs in itertools.product((-1, 1), repeat=8)]
    exact = np.mean(np.array(sums) >= abs(change.sum()))
    found = statistics.paired(first, second, asked, resamples=40_000)["p"]
    assert found == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 40_000))


def test_verdicts() -> None:
    few, many = np.zeros(40), np.zeros(40)
    many[:12] = 1
    assert statistics.paired(few, many)["verdict"] == "better"
    assert statistics.paired(many, few)["verdict"] == "worse"
    assert statistics.paired(many, many) == {
        "difference": 0, "low": 0, "high": 0, "p": 1, "gained": 0, "lost": 0, "verdict": "not distinguishable"
    }  # fmt: skip
    # Five gains and no loss: the bootstrap's interval excludes 0, but the exact p is 2 / 2**5 = 0.0625.
    five = np.zeros(40)
    five[:5] = 1
    found = statistics.paired(few, five)
    assert (found["low"] > 0, found["p"], found["verdict"]) == (True, 0.0625, "not distinguishable")


def test_equal_models_are_seldom_called_different() -> None:
    generator = np.random.default_rng(0)
    pairs = (generator.random((200, 2, 96)) < 0.3).astype(float)
    different = sum(statistics.paired(*pair, resamples=1_000)["verdict"] != "not distinguishable" for pair in pairs)
    assert different <= 16  # 5% of 200 are 10; binomial(200, 0.05) exceeds 16 once in 42


def test_shapes_must_match() -> None:
    with pytest.raises(ValueError, match="one shape"):
        statistics.paired(np.zeros(3), np.zeros(4))


def test_values_that_are_no_shares_get_the_plain_bootstrap() -> None:
    assert statistics.bootstrap(PASSED, ASKED) == statistics.interval(PASSED, ASKED)
    assert statistics.bootstrap(np.zeros(48)) == (0.0, 0.0)
    low, high = statistics.bootstrap(10 * PASSED, ASKED)
    assert (low, high) == pytest.approx([10 * bound for bound in statistics.interval(PASSED, ASKED)], abs=1e-12)
