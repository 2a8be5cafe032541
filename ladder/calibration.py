"""Whether a model's probabilities mean what they say.

A pair's probability is sigma(margin), that the chosen answer is the better one (Bradley and Terry 1952); the truth is
always that it is.
"""

import numpy as np
from scipy.special import expit

from ladder.statistics import Array, won


def accuracy(margins: Array) -> float:
    """Share of pairs [pairs] whose margin is above 0; a tie counts half."""
    return float(won(margins).mean())


def brier(margins: Array) -> float:
    """Mean of (1 - sigma(margin))^2 (Brier 1950): 0 is perfect, 0.25 is what a coin scores."""
    return float(((1 - expit(margins)) ** 2).mean())


def expected_calibration_error(margins: Array, bins: int = 10) -> float:
    """How far confidence and accuracy lie apart, mean over pairs (Guo et al. 2017, eq. 5).

    The confidence in a pair is the probability of the answer held to be better, in `bins` equal bins from 1/2 to 1.
    """
    confidence = expit(np.abs(margins))
    right = won(margins)
    place = np.minimum(((confidence - 0.5) * 2 * bins).astype(int), bins - 1)
    gaps = [abs((right - confidence)[place == number].sum()) for number in range(bins)]
    return float(sum(gaps) / len(margins))
