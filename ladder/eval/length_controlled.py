"""AlpacaEval's length-controlled win rate (Dubois et al. 2024, arXiv 2404.04475, equations 2 and 3).

The judge's preference is regressed on the lengths of the two answers and on the difficulty of the instruction:

    P(model preferred) = logistic(theta + phi tanh((length - baseline length) / std) + psi difficulty)      (2)

The win rate is the mean prediction at equal lengths:

    win rate = mean over instructions of logistic(theta + psi difficulty)                                   (3)

The published number needs two inputs that no package carries and that a machine without network does not have:
- The 805 instruction difficulties. They come from one regression over all models of the public leaderboard, and cannot
  be estimated from one model's answers. Without them psi is 0 here; the authors' own code and the metric file call this
  "length_controlled_minimal". Over 57 models of the leaderboard it differs from the published rate by 6.5 points on
  average, all on short answers. Given `difficulties` (from the authors' data set on the Hub), psi is fitted as
  published.
- The preferences for the baseline's deliberately short and long answers. The authors add them to the data with
  weight 0.1 each, to pull phi towards the effect of length for the baseline itself. They are not used here.

The authors use an L1 penalty chosen by cross-validation. This module uses a negligible ridge penalty (see `RIDGE`).
With the same features the two fits agree within 0.05 points on 805 rows, and within 0.5 on 64.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]

RIDGE = 1e-4
"""Ridge penalty: half of it times the squared coefficients is added to the log loss summed over rows. It equals the
weakest penalty of the authors' cross-validation (C = 10,000), as a ridge."""
CERTAIN = 1e-3
"""Distance from 0 or 1 below which a preference counts as certain."""
SMALLEST_STEP = 1e-9
"""Convergence threshold: Newton stops when no coefficient changes by more than this."""


@dataclass(frozen=True)
class Controlled:
    """A length-controlled win rate, as a fraction."""

    win_rate: float
    contributions: Array
    """[N]: the win rate plus each row's influence on it (Hampel 1974), through the prediction and the coefficients.

    Their mean is the win rate, and their spread is that of the estimate. A bootstrap over them therefore replaces
    refitting the regression on every resample. A value may lie outside 0 to 1.
    """
    theta: float
    phi: float
    psi: float


def length_controlled(
    preferences: Array, lengths: Array, baseline_lengths: Array, difficulties: Array | None = None
) -> Controlled | None:
    """Fit equation 2 to N judged pairs and predict equation 3.

    preferences [N]: probability, 0 to 1, that the model's answer is preferred; 1/2 is a tie.
    lengths, baseline_lengths [N]: in characters. difficulties [N]: as published; None when unknown.
    When all answers are as long as the baseline's, length explains nothing and phi is 0.
    Returns None when the data do not determine the rate at equal length and its uncertainty: one model's answers are
    longer in every row, one model wins everywhere, or the features separate wins from losses.
    Errors: ValueError if shapes differ or there are no rows.
    """
    columns = [preferences, lengths, baseline_lengths, *([] if difficulties is None else [difficulties])]
    if len({len(column) for column in columns}) != 1 or not len(preferences):
        raise ValueError(f"expected columns of one length, got {[len(column) for column in columns]}")
    differences = lengths - baseline_lengths
    if not differences.min() <= 0 <= differences.max():
        return None
    features_NF = _features(differences, difficulties)
    equal_NF = features_NF * [1.0, 0.0, 1.0]
    coefficients_F = _fit(features_NF, preferences)
    if _separated(special.expit(features_NF @ coefficients_F), preferences):
        return None
    predicted_N = special.expit(equal_NF @ coefficients_F)
    win_rate = float(predicted_N.mean())
    influence_NF = _influence(features_NF, preferences, coefficients_F)
    gradient_F = (predicted_N * (1 - predicted_N)) @ equal_NF / len(equal_NF)
    theta, phi, psi = map(float, coefficients_F)
    return Controlled(win_rate, predicted_N + influence_NF @ gradient_F, theta, phi, psi)


def _separated(predicted_N: Array, preferences_N: Array) -> bool:
    """Whether the regression separates all wins from all losses (Albert and Anderson 1984). Without the ridge, the
    coefficients would then grow without bound."""
    certain_N = np.minimum(preferences_N, 1 - preferences_N) < CERTAIN
    return bool((certain_N & ((predicted_N > 0.5) == (preferences_N > 0.5))).all())


def _features(differences_N: Array, difficulties_N: Array | None) -> Array:
    """Build the features [N, 3]: one, length, difficulty; a column without anything to fit is zero."""
    spread = float(np.std(differences_N, ddof=1)) if len(differences_N) > 1 else 0.0
    lengths_N = np.tanh(differences_N / spread) if spread > 0 else np.zeros(len(differences_N))
    known_N = np.zeros(len(differences_N)) if difficulties_N is None else difficulties_N
    return np.column_stack([np.ones(len(differences_N)), lengths_N, known_N])


def _fit(features_NF: Array, preferences_N: Array) -> Array:
    """Minimize the log loss with the ridge by Newton's method with step halving; return the coefficients [F]."""

    def loss(coefficients_F: Array) -> float:
        logits_N = features_NF @ coefficients_F
        log_losses_N = np.logaddexp(0, logits_N) - preferences_N * logits_N
        return float(log_losses_N.sum() + RIDGE / 2 * (coefficients_F**2).sum())

    coefficients_F = np.zeros(features_NF.shape[1])
    for _ in range(200):
        uphill_F = _scores(features_NF, preferences_N, coefficients_F).sum(axis=0)
        step_F = np.linalg.solve(_curvature(features_NF, coefficients_F), uphill_F)
        while np.abs(step_F).max() > SMALLEST_STEP and loss(coefficients_F + step_F) > loss(coefficients_F):
            step_F = step_F / 2
        coefficients_F = coefficients_F + step_F
        if np.abs(step_F).max() <= SMALLEST_STEP:
            return coefficients_F
    raise ArithmeticError(f"the regression did not converge; its last step was {step_F}")


def _scores(features_NF: Array, preferences_N: Array, coefficients_F: Array) -> Array:
    """Return each row's part of the gradient [N, F], with the ridge split evenly; they sum to zero at the optimum."""
    residuals_N = preferences_N - special.expit(features_NF @ coefficients_F)
    return features_NF * residuals_N[:, None] - RIDGE * coefficients_F / len(preferences_N)


def _curvature(features_NF: Array, coefficients_F: Array) -> Array:
    predicted_N = special.expit(features_NF @ coefficients_F)
    weighted_NF = features_NF * (predicted_N * (1 - predicted_N))[:, None]
    curvature_FF: Array = features_NF.T @ weighted_NF + RIDGE * np.eye(features_NF.shape[1])
    return curvature_FF


def _influence(features_NF: Array, preferences_N: Array, coefficients_F: Array) -> Array:
    """Return each row's influence on the coefficients, times N: [N, F]."""
    scores_NF = _scores(features_NF, preferences_N, coefficients_F)
    pulls_NF = np.linalg.solve(_curvature(features_NF, coefficients_F), scores_NF.T).T
    return np.asarray(len(scores_NF) * pulls_NF, dtype=np.float64)
