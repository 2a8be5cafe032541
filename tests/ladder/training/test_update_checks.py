"""Trainings that changed nothing, or too much."""

import functools
import math

import pytest
import torch

from ladder.pipeline.stage import UserError
from ladder.training.update_checks import check_learned, check_ruined, marks, norm


def points(*norms, **more):
    return [{"step": step, "loss": 1.0, "grad_norm": norm, **more} for step, norm in enumerate(norms, 1)]


def test_steps_without_a_gradient_are_reported_when_they_are_half_of_all(capsys):
    assert check_learned(points(0.0, 1.0, 1.0), None, None) == {}
    assert check_learned(points(0.0, 1.0, 0.0, 1.0), None, None) == {"steps_without_gradient": 2}
    assert "the gradient was zero at 2 of 4 steps" in capsys.readouterr().err
    assert check_learned([{"step": 1, "loss": 1.0}], None, None) == {}


def test_no_gradient_at_all_is_refused_with_what_to_change():
    with pytest.raises(
        UserError, match="so no rung is saved: the gradient was zero at all 2 steps. Every answer to a prompt"
    ):
        check_learned(points(0.0, 0.0, reward=1.0), None, None)


def test_weights_that_are_as_they_were_are_refused():
    model = torch.nn.Linear(4, 4)
    before = marks(model, torch.bfloat16)
    with torch.no_grad():
        model.weight += 1e-9  # below the resolution of bfloat16
    with pytest.raises(UserError, match="no weight differs from its parent's after 1 steps"):
        check_learned(points(1.0), before, marks(model, torch.bfloat16))
    with torch.no_grad():
        model.weight[0, 0] += 1.0
    assert check_learned(points(1.0), before, marks(model, torch.bfloat16)) == {}
    assert list(before) == ["weight", "bias"]


def test_the_norm_is_over_weights_that_take_gradients():
    model = torch.nn.Linear(2, 1)
    model.weight.data, model.bias.data = torch.tensor([[3.0, 4.0]]), torch.tensor([12.0])
    assert norm(model) == pytest.approx(13)
    model.bias.requires_grad_(False)
    assert norm(model) == pytest.approx(5)


def test_weights_that_grew_are_refused():
    for adapter, most in ((False, 10), (True, 30)):
        check_ruined(points(1.0), 2.0, 2.0 * most, adapter=adapter, vocabulary=8)
        with pytest.raises(
            UserError, match=f"norm of the trained weights grew from .*; expected at most {most} times. The tr"
        ):
            check_ruined(points(1.0), 2.0, 2.1 * most, adapter=adapter, vocabulary=8)
    with pytest.raises(UserError, match="norm of the trained weights grew from .* to nan"):
        check_ruined(points(1.0), 2.0, float("nan"), adapter=True, vocabulary=8)
    check_ruined(points(1.0), 0.0, 5.0, adapter=True, vocabulary=8)  # nothing to compare with


def losses(*values):
    return [{"step": step, "loss": loss} for step, loss in enumerate(values, start=1)]


def test_a_loss_above_a_uniform_guess_and_its_beginning_is_refused():
    guess = 2.0794  # ln 8
    check = functools.partial(check_ruined, before=None, after=None, adapter=False, vocabulary=8)
    check(losses(1.0, guess + 0.99))
    check(losses(4.0, 6.0))
    for ruined in (losses(1.0, guess + 1.01), losses(4.0, 6.01), losses(*[1.0] * 18, 4.0, 4.0), losses(1.0, math.inf)):
        with pytest.raises(UserError, match=r"the loss of the last tenth of the steps rose from"):
            check(ruined)
    check([{**point, "reward": 0.0} for point in losses(0.0, 99.0)])
    with pytest.raises(UserError, match=r"the validation loss rose from 1 to 9; expected at most 3.079"):
        check([*losses(1.0), {"step": 2, "loss": 1.0, "validation_loss": 9.0}])
    check(losses(1.0, 99.0), loss=1.0)  # of the best weights
