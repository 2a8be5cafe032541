"""Calibration metrics of a reward model's pairwise probabilities.

The probability of a pair is sigma(margin): the chosen answer is the better one (Bradley and Terry 1952). The true
label is always 1.
"""

import numpy as np
from scipy.special import expit

from ladder.statistics import Array, won


def accuracy(margins: Array) -> float:
    """Return the fraction of pairs with a margin above 0; a tie counts half. Shape of margins: [pairs]."""
    return float(won(margins).mean())


def brier(margins: Array) -> float:
    """Return the Brier score, the mean of (1 - sigma(margin))^2 (Brier 1950).

    0 is perfect, 0.25 is chance. Shape: [pairs].
    """
    return float(((1 - expit(margins)) ** 2).mean())


def expected_calibration_error(margins: Array, bins: int = 10) -> float:
    """Return the expected calibration error: the gap of confidence and accuracy, mean over pairs (Guo et al. 2017, eq.

    5).

    Confidence is the probability of the answer that the model prefers, in `bins` equal bins from 1/2 to 1. Accuracy
    is 1 if that is the chosen answer, 0 if not, 1/2 for a tie. Shape of margins: [pairs].
    """
    confidence = expit(np.abs(margins))
    right = won(margins)
    place = np.minimum(((confidence - 0.5) * 2 * bins).astype(int), bins - 1)
    gaps = [abs((right - confidence)[place == number].sum()) for number in range(bins)]
    return float(sum(gaps) / len(margins))
