import warnings

import numpy as np
import pytest
import statsmodels.api as sm
from numpy.testing import assert_allclose
from sklearn.linear_model import LogisticRegression

from ladder.eval.length_controlled import RIDGE, Controlled, length_controlled
from ladder.statistics import Array, bootstrap


def judged(seed: int, rows: int = 805) -> tuple[Array, Array, Array, Array]:
    """Preferences generated from lengths, baseline lengths and difficulties."""
    generator = np.random.default_rng(seed)
    difficulties = generator.normal(0, 1, rows)
    lengths, baseline = generator.gamma(3, 300, rows).round(), generator.gamma(4, 500, rows).round()
    differences = lengths - baseline
    logits = -0.8 + 1.5 * np.tanh(differences / differences.std(ddof=1)) - 0.6 * difficulties
    chance = 1 / (1 + np.exp(-logits))
    return generator.beta(4 * chance, 4 * (1 - chance)), lengths, baseline, difficulties


def fitted(*columns: Array | None) -> Controlled:
    controlled = length_controlled(*columns)
    assert controlled is not None
    return controlled


def design(lengths: Array, baseline: Array, difficulties: Array) -> Array:
    differences = lengths - baseline
    return np.column_stack([np.ones_like(lengths), np.tanh(differences / differences.std(ddof=1)), difficulties])


def test_by_hand():
    # Two groups, longer and shorter by the same amount: both are fitted exactly, at logits ln 9 and 0.
    # At equal length the logit is halfway, ln 3: a win rate of 3/4, although 7/10 were won.
    preferences = np.array([0.9, 0.9, 0.5, 0.5])
    controlled = fitted(preferences, np.array([30.0, 30, 10, 10]), np.full(4, 20.0))
    assert controlled.win_rate == pytest.approx(0.75, abs=1e-4)
    assert controlled.contributions.mean() == pytest.approx(controlled.win_rate, abs=1e-9)
    # differences are 10, 10, -10, -10: their standard deviation is sqrt(400 / 3)
    assert controlled.phi == pytest.approx(np.log(9) / 2 / np.tanh(10 / np.sqrt(400 / 3)), abs=1e-3)


def test_as_statsmodels_without_the_ridge():
    preferences, lengths, baseline, difficulties = judged(0)
    features = design(lengths, baseline, difficulties)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns about preferences between 0 and 1
        model = sm.GLM(preferences, features, family=sm.families.Binomial()).fit(tol=1e-12)
    controlled = fitted(preferences, lengths, baseline, difficulties)
    assert_allclose([controlled.theta, controlled.phi, controlled.psi], model.params, atol=1e-5)
    assert controlled.win_rate == pytest.approx(model.predict(features * [1, 0, 1]).mean(), abs=1e-6)


@pytest.mark.parametrize("known", [True, False])
def test_as_scikit_learn_with_the_ridge(known: bool):
    # Discrete verdicts; few rows, so that the ridge penalty has an effect.
    preferences, lengths, baseline, difficulties = judged(1, rows=24)
    verdicts = (preferences > 0.5).astype(float)
    features = design(lengths, baseline, difficulties)[:, : 3 if known else 2]
    model = LogisticRegression(C=1 / RIDGE, fit_intercept=False, tol=1e-12, max_iter=10_000).fit(features, verdicts)
    controlled = fitted(verdicts, lengths, baseline, difficulties if known else None)
    assert_allclose([controlled.theta, controlled.phi, controlled.psi][: features.shape[1]], model.coef_[0], rtol=1e-5)
    equal = features * [1, 0, 1][: features.shape[1]]
    assert controlled.win_rate == pytest.approx(model.predict_proba(equal)[:, 1].mean(), abs=1e-7)


def test_length_that_explains_nothing_leaves_the_raw_win_rate():
    preferences = judged(2, rows=50)[0]
    for lengths in (np.full(50, 700.0), np.arange(50.0) + 100):
        controlled = fitted(preferences, lengths, lengths)
        assert controlled.win_rate == pytest.approx(preferences.mean(), abs=1e-5)
        assert controlled.phi == 0


@pytest.mark.parametrize("rows", [8, 64, 805])
def test_what_is_separated_has_no_length_controlled_win_rate(rows: int):
    _, lengths, baseline, _ = judged(3, rows=rows)
    for won in (np.zeros(rows), np.ones(rows), (lengths > baseline).astype(float)):
        assert length_controlled(won, lengths, baseline) is None
    won = np.zeros(rows)
    won[np.argsort(lengths - baseline)[rows // 2]] = 1  # one win at the median difference is enough
    assert 0 < fitted(won, lengths, baseline).win_rate < 0.5


def test_equal_length_is_never_extrapolated():
    preferences, lengths, _, _ = judged(5, rows=50)
    assert length_controlled(preferences, lengths, lengths + 1) is None
    assert length_controlled(preferences, lengths, lengths + np.append(np.zeros(1), np.arange(49.0))) is not None


def test_one_row():
    assert fitted(np.array([0.25]), np.array([3.0]), np.array([3.0])).win_rate == pytest.approx(0.25, abs=1e-3)


def test_the_contributions_bootstrap_as_refitting_does():
    preferences, lengths, baseline, _ = judged(4, rows=300)
    controlled = fitted(preferences, lengths, baseline)
    low, high = bootstrap(controlled.contributions)
    generator = np.random.default_rng(0)
    refitted = [
        fitted(preferences[index], lengths[index], baseline[index]).win_rate
        for index in generator.integers(0, 300, (300, 300))
    ]
    # 300 refits estimate their spread to 4%; the mean of the predictions alone has no spread.
    assert (high - low) / 3.92 == pytest.approx(np.std(refitted), rel=0.12)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"\[2, 1, 2\]"):
        length_controlled(np.zeros(2), np.zeros(1), np.zeros(2))
    with pytest.raises(ValueError, match=r"\[0, 0, 0\]"):
        length_controlled(np.zeros(0), np.zeros(0), np.zeros(0))
