import pytest

from conftest import user
from ladder.judges.comparison import Comparison, compare, higher


@pytest.mark.parametrize(
    ("straight", "swapped", "side"),
    [
        ("A", "B", "one"),
        ("B", "A", "two"),
        ("C", "C", "tie"),
        ("A", "A", "tie"),  # the first shown, both times
        ("B", "B", "tie"),
        ("A", "C", "tie"),
        ("A", None, None),
        (None, "B", None),
    ],
)
def test_a_win_is_a_win_in_both_orders(straight: str | None, swapped: str | None, side: str | None) -> None:
    one = Comparison(straight, swapped)
    assert one.preferred == side
    assert one.complete == (None not in (straight, swapped))
    assert one.flipped == (one.complete and (straight, swapped) not in {("A", "B"), ("B", "A"), ("C", "C")})


def test_each_pair_is_shown_in_both_orders() -> None:
    class First:
        """A judge that prefers what it is shown first, unless the answers are equal."""

        def choose(self, requests, *, progress):
            shown = [request[0]["content"].split() for request in requests]
            return ["C" if one == two else "A" for one, two in shown]

    pairs = [(user("x y"), user("y x")), (user("z z"), user("z z"))]
    assert compare(First(), pairs, progress="") == [Comparison("A", "A"), Comparison("C", "C")]


def test_the_higher_of_two_grades() -> None:
    assert [higher(2, 1), higher(1, 2), higher(1, 1), higher(None, 1)] == ["one", "two", "tie", None]
