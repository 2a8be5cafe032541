import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ladder import statistics
from ladder.eval.benchmark import Answers, Benchmark, Question, Tools
from ladder.eval.judge_config import Scoring
from ladder.eval.measure import Measure
from ladder.eval.scores import made_by, score_answers, summary
from ladder.pipeline.stage import UserError

SURE = Scoring(resamples=1_000)


def one(row):
    return 1.0


MEASURES = {
    "pass": Measure("solved", "%", "higher", lambda row: row["pass"], one, True),
    "part": Measure("parts", "%", "higher", lambda row: row["got"], lambda row: row["of"], True),
    "grade": Measure(
        "grade", "of 10", "higher", lambda row: row["grade"], lambda row: row["grade"] is not None, False
    ),
}  # fmt: skip
ROWS = [
    {"key": "1", "pass": True, "got": 2, "of": 2, "grade": 9},
    {"key": "2", "pass": False, "got": 1, "of": 4, "grade": None},
    {"key": "3", "pass": False, "got": 0, "of": 2, "grade": 4},
]
QUESTIONS = [
    Question("1", ("one?",), "easy"),
    Question("2", ("two?", "why?"), "easy + long"),
    Question("3", ("three?",), "hard"),
]
ANSWERS = [
    Answers("1", (("a",),), (5,), (True,)),
    Answers("2", (("b", "c"), ("d", "e")), (6, 8), (True, False)),
    Answers("3", (("f",),), (1,), (True,)),
]


def made(rows=ROWS, headline=("pass", "part"), measures=MEASURES):
    return Benchmark(
        "made", measures, headline, lambda rows: [], lambda *_: rows, {"both": ("pass", "part")}, (), lambda _: (),
        lambda: None,
    )  # fmt: skip


def scored(found):
    return score_answers(found, QUESTIONS, ANSWERS, Tools())


def test_a_row_says_what_each_measure_was_worth_and_what_was_said():
    row = scored(made())[1]
    assert row["measures"] == {"pass": [0, 1], "part": [1, 4], "grade": [0, 0]}
    assert (row["group"], row["prompt"], row["follow_ups"]) == ("easy + long", "two?", ["why?"])
    assert row["responses"] == [["b", "c"], ["d", "e"]]
    assert (row["tokens"], row["finished"]) == ([6, 8], [True, False])


def test_summary_by_hand():
    numbers = summary(made(), scored(made()), SURE)
    # 1 of 3 questions, 3 of 8 parts; grades 9 and 4, without the question that has no grade.
    assert {name: numbers[name] for name in ("both", "pass", "part", "grade")} == {
        "both": 35.42, "pass": 33.33, "part": 37.5, "grade": 6.5
    }  # fmt: skip
    # Two grades: resamples are (4, 4), (4, 9), (9, 9).
    assert (numbers["interval"]["grade_low"], numbers["interval"]["grade_high"]) == (4.0, 9.0)
    # Question 2 is in two groups; easy: 1 of 2 questions, 3 of 6 parts; hard: nothing, Wilson's interval of 0 of 1.
    assert {name: (group["both"], group["rows"]) for name, group in numbers["groups"].items()} == {
        "easy": (50.0, 2), "hard": (0.0, 1), "long": (12.5, 1)
    }  # fmt: skip
    assert (numbers["groups"]["hard"]["low"], numbers["groups"]["hard"]["high"]) == (0.0, 79.35)


def test_the_mean_of_two_measures_is_resampled_by_question():
    # Its interval is that of ladder.statistics on both together, with the same questions in each resample.
    numbers = summary(made(), scored(made()), SURE)
    values, weights = np.array([[1, 0, 0], [2, 1, 0]]), np.array([[1, 1, 1], [2, 4, 2]])
    low, high = statistics.interval(values, weights, resamples=1_000)
    assert (numbers["interval"]["both_low"], numbers["interval"]["both_high"]) == (
        round(100 * low, 2), round(100 * high, 2)
    )  # fmt: skip


def test_a_measure_that_counts_nothing_is_left_out_and_a_headline_refused():
    rows = [{**row, "grade": None} for row in ROWS]
    assert "grade" not in summary(made(rows), scored(made(rows)), SURE)
    with pytest.raises(UserError, match="made: nothing to score: no answer counts toward grade"):
        summary(made(rows, ("grade",)), scored(made(rows)), SURE)


def test_one_group_alone_is_no_group():
    rows = [{**row, "group": "all"} for row in scored(made())]
    assert "groups" not in summary(made(), rows, SURE)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (ROWS[:2], "benchmarks/made.py: score: expected one row per answer"),
        ([ROWS[1], ROWS[0], ROWS[2]], "in the same order"),
        ([*ROWS[:2], {"key": "3"}], "measure pass cannot read the row of key '3': KeyError"),
    ],
)
def test_refuses_rows_that_are_not_the_answers(rows, sentence):
    with pytest.raises(UserError, match=sentence):
        scored(made(rows))


def test_made_by_says_how_much_was_answered_and_how():
    facts = made_by(made(), QUESTIONS + [Question("4", ("?",), "hard")], ANSWERS, SURE, None)
    assert facts == {
        "rows": 3, "of": 4, "samples": 2, "finished": 75.0, "tokens": 5.0,
        "headline": {"name": "both", "measures": ["pass", "part"], "unit": "%", "better": "higher"},
        "resamples": 1_000, "seed": 0,
    }  # fmt: skip


def test_a_judges_section_is_checked_and_costs_nothing_where_there_is_none():
    with pytest.raises(ValueError, match="judge.endpoint.base_url: missing"):
        Scoring(judge={"endpoint": {"model": "m"}})
    assert Scoring(judge={}).judge == {}
    program = "import sys; from ladder.eval.judge_config import Scoring, judge_of; from pathlib import Path\n"
    program += "judge_of(Scoring(), Path('models/base')); sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0
