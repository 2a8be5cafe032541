from collections import Counter

import numpy as np
import pytest

from ladder.report.histograms import bars, doubling, quantile, spread


@pytest.mark.parametrize("share", [0.0, 0.05, 0.25, 0.5, 0.95, 1.0])
def test_a_quantile_is_numpys_inverted_distribution(share):
    generator = np.random.default_rng(0)
    for size in (1, 2, 3, 10, 20, 100, 999):
        numbers = generator.integers(0, 50, size)
        wanted = np.quantile(numbers, share, method="inverted_cdf")
        assert quantile(Counter(numbers.tolist()), share) == wanted


def test_no_numbers_have_no_quantile():
    with pytest.raises(ValueError, match="no numbers"):
        quantile(Counter(), 0.5)


def test_bins_double_as_numpy_counts_them():
    numbers = np.random.default_rng(1).integers(0, 300, 1000)
    edges = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    found = doubling(Counter(numbers.tolist()))
    assert list(found.values()) == np.histogram(numbers, edges)[0].tolist()
    assert list(found) == ["0", "1", "2-3", "4-7", "8-15", "16-31", "32-63", "64-127", "128-255", "256-511"]


def test_the_bins_run_from_the_first_to_the_last_with_the_empty_ones_between():
    assert doubling(Counter([2, 3, 3, 17])) == {"2-3": 3, "4-7": 0, "8-15": 0, "16-31": 1}


def test_a_spread_by_hand():
    assert spread(Counter([0, 1, 1, 2, 6])) == {
        "total": 10,
        "mean": 2.0,
        "p5": 0,
        "median": 1,
        "p95": 6,
        "max": 6,
        "histogram": {"0": 1, "1": 2, "2-3": 1, "4-7": 1},
    }


def test_bars_are_in_proportion_and_none_that_counts_is_without_one():
    assert bars({"0": 1, "1": 0, "2-3": 200, "4-7": 100}, "words").splitlines() == [
        "words  rows",
        "    0     1  █",
        "    1     0",
        f"  2-3   200  {'█' * 40}",
        f"  4-7   100  {'█' * 20}",
    ]
