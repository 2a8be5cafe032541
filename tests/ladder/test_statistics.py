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
    # Agresti's approval ratings (86 and 150 changed), as R's exact2x2 prints it.
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
    assert statistics.paired(few, many)["verdict"] == "improved"
    assert statistics.paired(many, few)["verdict"] == "regressed"
    assert statistics.paired(many, many) == {
        "difference": 0, "low": 0, "high": 0, "p": 1, "gained": 0, "lost": 0, "verdict": "no significant difference"
    }  # fmt: skip
    # Five gains and no loss: the bootstrap interval excludes 0, but the exact p is 2 / 2**5 = 0.0625.
    five = np.zeros(40)
    five[:5] = 1
    found = statistics.paired(few, five)
    assert (found["low"] > 0, found["p"], found["verdict"]) == (True, 0.0625, "no significant difference")


def test_equal_models_are_seldom_called_different() -> None:
    generator = np.random.default_rng(0)
    pairs = (generator.random((200, 2, 96)) < 0.3).astype(float)
    different = sum(
        statistics.paired(*pair, resamples=1_000)["verdict"] != "no significant difference" for pair in pairs
    )
    assert different <= 16  # 5% of 200 are 10; binomial(200, 0.05) exceeds 16 once in 42


def test_shapes_must_match() -> None:
    with pytest.raises(ValueError, match="one shape"):
        statistics.paired(np.zeros(3), np.zeros(4))


def test_values_that_are_no_shares_get_the_plain_bootstrap() -> None:
    assert statistics.bootstrap(PASSED, ASKED) == statistics.interval(PASSED, ASKED)
    assert statistics.bootstrap(np.zeros(48)) == (0.0, 0.0)
    low, high = statistics.bootstrap(10 * PASSED, ASKED)
    assert (low, high) == pytest.approx([10 * bound for bound in statistics.interval(PASSED, ASKED)], abs=1e-12)


def test_holm_is_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest", reason="needs statsmodels (extra dev)")
    generator = np.random.default_rng(5)
    for size in (1, 2, 7, 40):
        for power in (1, 6):  # powers of uniform p: most are small
            p = (generator.random(size) ** power).tolist()
            assert statistics.holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1].tolist(), abs=1e-15)
    ties = [0.01, 0.01, 0.5, 1.0, 0.0]
    assert statistics.holm(ties) == pytest.approx(multitest.multipletests(ties, method="holm")[1].tolist(), abs=1e-15)


def test_holm_by_hand() -> None:
    # Holm 1979: 4 * 0.01, 3 * 0.02, then 2 * 0.025 = 0.05 is raised to the previous 0.06.
    assert statistics.holm([0.025, 0.01, 0.4, 0.02]) == pytest.approx([0.06, 0.04, 0.4, 0.06])
    assert statistics.holm([0.8, 0.6]) == [1.0, 1.0]
    assert statistics.holm([]) == []
    with pytest.raises(ValueError, match="probabilities"):
        statistics.holm([0.1, float("nan")])


def test_the_paired_interval_covers_what_it_says() -> None:
    # 100 prompts, 700 times, from a population in which both pass 50%, only the first 8%, only the second 12%: +4%.
    # Of the 95% intervals, 665 are expected to contain it; three standard deviations of the simulation are 17.
    generator = np.random.default_rng(1)
    held = 0
    for draw in generator.random((700, 100)):
        first, second = draw < 0.58, (draw < 0.5) | ((draw > 0.58) & (draw < 0.7))
        found = statistics.paired(first.astype(float), second.astype(float), resamples=1_000)
        held += found["low"] <= 0.04 <= found["high"]
    assert 648 <= held <= 682


def test_the_paired_interval_of_weighted_means_covers_what_it_says() -> None:
    # Judge grades: 80 questions with one or two graded turns, different in the two models; the true difference is -0.5.
    generator = np.random.default_rng(2)
    held = 0
    for _ in range(600):
        turns = generator.integers(1, 3, (2, 80)).astype(float)
        ability = generator.normal(6, 2, 80)
        grades = ability + generator.normal(0, 1, (2, 80)) + np.array([[0.5], [0.0]])
        found = statistics.paired(turns[0] * grades[0], turns[1] * grades[1], turns[0], turns[1], resamples=1_000)
        held += found["low"] <= -0.5 <= found["high"]
    assert 554 <= held <= 586  # 570 expected, three standard deviations are 16


def test_models_asked_otherwise_are_scipys_difference_of_ratios() -> None:
    other = GENERATOR.integers(1, 4, 541).astype(float)
    second = np.floor(np.random.default_rng(9).random(541) * (other + 1))
    found = statistics.paired(PASSED, second, ASKED, other, resamples=2_000)
    expected = stats.bootstrap(
        (PASSED, ASKED, second, other),
        lambda a, b, c, d, axis: c.sum(axis=axis) / d.sum(axis=axis) - a.sum(axis=axis) / b.sum(axis=axis),
        paired=True,
        method="percentile",
        n_resamples=2_000,
        rng=np.random.default_rng(0),
    )
    assert (found["low"], found["high"]) == pytest.approx(tuple(expected.confidence_interval), abs=1e-12)
    assert found["difference"] == pytest.approx(second.sum() / other.sum() - PASSED.sum() / ASKED.sum())


def test_swapping_what_was_asked_is_the_enumeration_of_all_swaps() -> None:
    first, first_asked = np.array([0.0, 1, 0, 2, 1, 0, 1, 3]), np.array([2.0, 1, 1, 2, 1, 3, 2, 3])
    second, second_asked = np.array([2.0, 1, 1, 1, 2, 1, 2, 1]), np.array([2.0, 2, 1, 1, 2, 1, 2, 2])

    def difference(swap: tuple[bool, ...]) -> float:
        passed, asked = np.where(swap, second, first), np.where(swap, second_asked, first_asked)
        other, other_asked = np.where(swap, first, second), np.where(swap, first_asked, second_asked)
        return abs(other.sum() / other_asked.sum() - passed.sum() / asked.sum())

    observed = difference((False,) * 8)
    exact = np.mean([difference(swap) >= observed - 1e-12 for swap in itertools.product((False, True), repeat=8)])
    found = statistics.paired(first, second, first_asked, second_asked, resamples=40_000)["p"]
    assert 0.05 < exact < 0.95
    assert found == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 40_000))


def test_prompts_that_a_ratio_does_not_ask_are_no_evidence() -> None:
    asked = np.array([1.0] * 20 + [0.0] * 300)
    assert statistics.interval(asked, asked) == statistics.wilson(20, 20)
    assert statistics.interval(0 * asked, asked) == statistics.wilson(0, 20)
    with pytest.raises(ValueError, match="without any prompt asked"):
        statistics.ratio(np.zeros(3), np.zeros(3))


def test_a_resample_that_asks_nothing_is_left_out() -> None:
    # Three of 12 prompts are asked; of all resamples (9/12)^12 = 3% have none of them.
    asked = np.array([1.0] * 3 + [0.0] * 9)
    passed = np.array([1.0, 0, 0] + [0.0] * 9)
    index = np.random.default_rng(0).integers(0, 12, (10_000, 12))
    some = asked[index].sum(axis=1) > 0
    assert 200 < (~some).sum() < 430
    means = passed[index].sum(axis=1)[some] / asked[index].sum(axis=1)[some]
    assert statistics.interval(passed, asked) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=1e-12)
