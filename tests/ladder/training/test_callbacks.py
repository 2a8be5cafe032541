import pytest

from ladder.pipeline.stage import UserError
from ladder.training.callbacks import Curve, check_explosion


def points(values, name="loss"):
    return [{"step": step, name: value} for step, value in enumerate(values, start=1)]


@pytest.mark.parametrize("name", ["loss", "grad_norm"])
def test_what_stays_a_hundred_times_too_large_is_stopped(name):
    began = [2.0, 3.0, 1.0, 2.5, 2.0]
    check_explosion(points([*began, 201, 201, 201, 201], name))
    check_explosion(points([*began, 201, 201, 199, 201, 201], name))
    with pytest.raises(UserError, match=f"step 10: {name} is 201, over 100 times its first value 2, for 5 steps"):
        check_explosion(points([*began, 201, 201, 201, 201, 201], name))


def test_a_loss_began_before_the_first_update():
    exploded = [2.0, *[201.0] * 9]
    with pytest.raises(UserError, match="step 10: loss is 201, over 100 times its first value 2"):
        check_explosion(points(exploded))
    check_explosion(points(exploded, "grad_norm"))


def test_a_loss_that_begins_at_zero_may_grow():
    check_explosion(points([0.0] * 5 + [99.0] * 20))
    check_explosion(points([-1.0] * 30))
    with pytest.raises(UserError):
        check_explosion(points([0.0] * 5 + [101.0] * 5))


def test_the_ending_is_the_last_quarter(tmp_path):
    curve = Curve(tmp_path / "curve.tsv")
    curve.points = points([9.0] * 6 + [1.0, 2.0])
    assert curve.ending("loss") == 1.5
