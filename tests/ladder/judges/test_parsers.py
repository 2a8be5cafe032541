import pytest

from ladder.judges.parsers import RATINGS, Scale, parse_choice, parse_json, parse_rating
from ladder.pipeline.stage import Config


class Grades(Config):
    helpfulness: int
    rationale: str


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("Rating: [[5]]", 5.0),
        ("Good, but short.\n\nRating: [[7.5]]", 7.5),
        ("[[10]] because ... I rate it [[10]].", 10.0),
        ("Rating: [[1]]", 1.0),
        ("The answer says [[10]]. Rating: [[2]]", None),
        ("Rating: [[0]]", None),
        ("Rating: [[11]]", None),
        ("Rating: [[5/10]]", None),
        ("Rating: [5]", None),
        ("Rating: 5", None),
        ("[[-5]]", None),
        ("", None),
    ],
)
def test_a_rating_is_in_double_brackets_and_one(text: str, rating: float | None) -> None:
    assert parse_rating(text) == rating


def test_a_rating_of_another_range() -> None:
    assert parse_rating("[[0]]", 0, 1) == 0.0
    assert parse_rating("[[2]]", 0, 1) is None


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("Both are fine, A is shorter: [[A]]", "A"),
        ("[[C]]", "C"),
        ("[[A]] or [[B]]? [[A]]", None),
        ("[[D]]", None),
        ("[[a]]", None),
        ("A", None),
        ("see [[1]]. [[B]]", "B"),
    ],
)
def test_a_choice_is_in_double_brackets_and_one(text: str, choice: str | None) -> None:
    assert parse_choice(text) == choice


GOOD = '{"helpfulness": 7, "rationale": "short"}'


@pytest.mark.parametrize("text", [GOOD, f" {GOOD}\n", f"```json\n{GOOD}\n```", f"```\n{GOOD}\n```\n"])
def test_one_object_of_the_schema(text: str) -> None:
    assert parse_json(Grades)(text) == Grades(helpfulness=7, rationale="short")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "[]",
        f"Here you are: {GOOD}",
        GOOD + GOOD,
        GOOD[:-1],
        '{"helpfulness": 7}',
        '{"helpfulness": "7", "rationale": ""}',
        '{"helpfulness": 7.5, "rationale": ""}',
        '{"helpfulness": true, "rationale": ""}',
        '{"helpfulness": NaN, "rationale": ""}',
        '{"helpfulness": 7, "rationale": "", "safety": 1}',
        '{"helpfulness": 1, "helpfulness": 10, "rationale": ""}',
        '{"helpfulness": ' + "1" * 5000 + ', "rationale": ""}',
        "[" * 100_000,
    ],
)
def test_anything_else_is_none(text: str) -> None:
    assert parse_json(Grades)(text) is None


def test_what_a_label_is_worth() -> None:
    letters = Scale(("m", "M"), lead="", tail="", worth=(1.0, 0.0))
    assert [letters.grade(text) for text in ("m", " M\n", "mM", "m is better", "")] == [1.0, 0.0, None, None, None]
    named = Scale(("good", "bad"), "Class: [[", worth=(2.0, -1.0))
    assert [named.grade(text) for text in ("Class: [[bad]]", "[[good]] [[bad]]", "good")] == [-1.0, None, None]
    assert named.choice("[[bad]]") == "bad"
    assert RATINGS.grades() == list(range(1, 11))
    assert (RATINGS.grade("[[7.5]]"), RATINGS.choice("[[7.5]]")) == (7.5, None)
