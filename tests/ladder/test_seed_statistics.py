import numpy as np
import pytest
from scipy import stats

from ladder import seed_statistics, statistics


def test_error_by_hand() -> None:
    # Rows 0 2 4 and 4 2 6: grand mean 3, row means 2 and 4, column means 2, 2, 5.
    # MS_seeds = 3 (1 + 1) / 1 = 6. MS_prompts = 2 (1 + 1 + 4) / 2 = 6. The rest is -1, 1, 0 and 1, -1, 0: 4 / 2 = 2.
    # Var = (6 + 6 - 2) / 6 = 5/3; degrees = 10**2 / (36/1 + 36/2 + 4/2) = 100/56.
    found = seed_statistics.error(np.array([[0.0, 2, 4], [4, 2, 6]]))
    assert found["standard_error"] == pytest.approx((5 / 3) ** 0.5, abs=1e-12)
    assert found["degrees"] == pytest.approx(100 / 56, abs=1e-12)


def test_equal_seeds_are_scipys_t_test_over_prompts() -> None:
    change_N = np.random.default_rng(0).integers(-1, 2, 60).astype(float)
    found = seed_statistics.across_seeds(np.zeros((3, 60)), np.tile(change_N, (3, 1)))
    expected = stats.ttest_1samp(change_N, 0)
    low, high = expected.confidence_interval(0.95)
    assert (found["p"], found["low"], found["high"]) == pytest.approx((expected.pvalue, low, high), abs=1e-12)


def test_equal_prompts_are_scipys_t_test_over_seeds() -> None:
    change_S = np.array([0.1, 0.4, 0.3, 0.6])
    found = seed_statistics.across_seeds(np.zeros((4, 25)), np.tile(change_S[:, None], (1, 25)))
    expected = stats.ttest_1samp(change_S, 0)
    low, high = expected.confidence_interval(0.95)
    assert (found["p"], found["low"], found["high"]) == pytest.approx((expected.pvalue, low, high), abs=1e-9)
    assert (found["smallest"], found["largest"]) == pytest.approx((0.1, 0.6))


def test_the_error_is_unbiased_and_the_interval_covers_what_it_says() -> None:
    # Three seeds and 40 prompts, 1,500 times: standard deviations 0.1 of seeds, 0.3 of prompts, 0.4 of the rest.
    # Var(mean) = 0.01/3 + 0.09/40 + 0.16/120 = 0.0069167. 95% are 1,425; three standard deviations are 25, and
    # Satterthwaite's approximation is conservative when the variance of the seeds is uncertain.
    generator, held, variances = np.random.default_rng(4), 0, []
    for _ in range(1_500):
        seeds, prompts = generator.normal(0, 0.1, (3, 1)), generator.normal(0, 0.3, 40)
        second = 0.2 + seeds + prompts + generator.normal(0, 0.4, (3, 40))
        found = seed_statistics.across_seeds(np.zeros((3, 40)), second)
        held += found["low"] <= 0.2 <= found["high"]
        variances.append(seed_statistics.error(second)["standard_error"] ** 2)
    assert 1_400 <= held <= 1_480
    assert np.mean(variances) == pytest.approx(0.0069167, rel=0.1)


def test_equal_models_are_seldom_called_different() -> None:
    generator = np.random.default_rng(6)
    tables = (generator.random((400, 2, 3, 64)) < generator.random((400, 1, 1, 64))).astype(float)
    different = sum(seed_statistics.across_seeds(*pair)["verdict"] != "no significant difference" for pair in tables)
    assert different <= 30  # 5% of 400 are 20; binomial(400, 0.05) exceeds 30 once in 100


def test_one_seed_that_lost_prevents_a_verdict() -> None:
    first = np.zeros((3, 200))
    second = np.zeros((3, 200))
    second[:, :120] = 1
    assert seed_statistics.across_seeds(first, second)["verdict"] == "better"
    assert seed_statistics.across_seeds(second, first)["verdict"] == "worse"
    second[2], first[2, :2] = 0, 1
    found = seed_statistics.across_seeds(first, second)
    assert (found["smallest"], found["verdict"]) == (-0.01, "no significant difference")


def test_a_table_without_variance() -> None:
    same = seed_statistics.across_seeds(np.ones((2, 8)), np.ones((2, 8)))
    assert (same["difference"], same["p"], same["verdict"]) == (0, 1, "no significant difference")
    every = seed_statistics.across_seeds(np.zeros((2, 8)), np.ones((2, 8)))
    assert (every["low"], every["p"], every["verdict"]) == (1, 2 / 2**8, "better")


def test_contributions_by_hand() -> None:
    assert seed_statistics.contributions(np.array([1.0, 0, 1])).tolist() == [1, 0, 1]
    # R = 3/4; 2 (2 - 3/4 * 3) / 4 + 3/4 and 2 (1 - 3/4 * 1) / 4 + 3/4
    assert seed_statistics.contributions(np.array([2.0, 1]), np.array([3.0, 1])).tolist() == [0.625, 0.875]


def test_contributions_have_the_ratios_mean() -> None:
    generator = np.random.default_rng(8)
    asked = generator.integers(0, 4, (2, 30)).astype(float)
    passed = np.floor(generator.random((2, 30)) * (asked + 1))
    assert seed_statistics.contributions(passed, asked).mean() == pytest.approx(
        statistics.ratio(passed, asked), abs=1e-12
    )


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: seed_statistics.error(np.zeros((1, 9))), "two seeds"),
        (lambda: seed_statistics.across_seeds(np.zeros((2, 9)), np.zeros((3, 9))), "one shape"),
        (lambda: seed_statistics.contributions(np.zeros(3), np.zeros(3)), "no value"),
    ],
)
def test_what_has_no_error(call, words) -> None:
    with pytest.raises(ValueError, match=words):
        call()
