"""Trainings that changed nothing."""

import pytest
import torch

from ladder.learned import check_learned, marks
from ladder.run import Refused


def points(*norms, **more):
    return [{"step": step, "loss": 1.0, "grad_norm": norm, **more} for step, norm in enumerate(norms, 1)]


def test_steps_without_a_gradient_are_reported_when_they_are_half_of_all(capsys):
    assert check_learned(points(0.0, 1.0, 1.0), None, None) == {}
    assert check_learned(points(0.0, 1.0, 0.0, 1.0), None, None) == {"steps_without_gradient": 2}
    assert "the gradient was zero at 2 of 4 steps" in capsys.readouterr().err
    assert check_learned([{"step": 1, "loss": 1.0}], None, None) == {}


def test_no_gradient_at_all_is_refused_with_what_to_change():
    with pytest.raises(
        Refused, match="gradient was zero at all 2 steps, so no rung is saved; every answer to a prompt"
    ):
        check_learned(points(0.0, 0.0, reward=1.0), None, None)


def test_weights_that_are_as_they_were_are_refused():
    model = torch.nn.Linear(4, 4)
    before = marks(model, saved_in_bfloat16=True)
    with torch.no_grad():
        model.weight += 1e-9  # less than a bfloat16 can hold
    with pytest.raises(Refused, match="no weight differs from its parent's after 1 steps"):
        check_learned(points(1.0), before, marks(model, saved_in_bfloat16=True))
    with torch.no_grad():
        model.weight[0, 0] += 1.0
    assert check_learned(points(1.0), before, marks(model, saved_in_bfloat16=True)) == {}
    assert list(before) == ["weight", "bias"]
