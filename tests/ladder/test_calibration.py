import numpy as np
import pytest
from scipy.special import logit

from ladder.calibration import accuracy, brier, expected_calibration_error

# probabilities of the chosen answer 0.9, 0.9, 0.1 and 0.6: the preference is right, right, wrong and right
MARGINS = logit(np.array([0.9, 0.9, 0.1, 0.6]))


def test_the_calibration_error_by_hand():
    # with two bins, [0.5, 0.75) holds 0.6: accuracy 1, gap 0.4; [0.75, 1] holds 0.9 three times: accuracy 2/3
    assert expected_calibration_error(MARGINS, bins=2) == pytest.approx(1 / 4 * 0.4 + 3 / 4 * (0.9 - 2 / 3))


def test_a_model_that_says_how_often_it_is_right_is_calibrated():
    assert expected_calibration_error(logit(np.array([0.75, 0.75, 0.75, 0.25]))) == pytest.approx(0)


def test_a_certain_model_that_is_right_and_one_that_is_wrong():
    assert expected_calibration_error(np.array([100.0])) == pytest.approx(0)
    assert expected_calibration_error(np.array([-100.0])) == pytest.approx(1)


def test_the_brier_score_by_hand():
    assert brier(MARGINS) == pytest.approx((0.01 + 0.01 + 0.81 + 0.16) / 4)
    assert brier(np.zeros(3)) == 0.25


def test_a_tie_is_half_right():
    assert accuracy(np.array([1.0, 0.0, -1.0, 2.0])) == 0.625
