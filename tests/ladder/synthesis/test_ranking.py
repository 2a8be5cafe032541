import pytest

from conftest import assistant, user
from ladder.synthesis.ranking import by_checks, by_scores, by_verdicts, contests, rejectable


def row(name, text, *, passed=True, finished=True, **columns):
    said = {"prompt": user("Hi"), "completion": assistant(text)}
    return {"id": name, "edited": False, "finished": finished, "passed": [passed], **said, **columns}


def texts(pairs):
    return [(pair["chosen"][0]["content"], pair["rejected"][0]["content"]) for pair in pairs]


def test_by_checks_the_pair_nearest_in_length_comes_first():
    rows = [
        row("a", "one two three four"),
        row("a", "one"),
        row("a", "three four five", passed=False),
        row("a", "a b c d e f g", passed=False),
        row("b", "all good"),
        row("c", "good but cut", finished=False),
        row("c", "good"),
    ]
    made = by_checks(rows, 1)
    assert texts(made) == [("one two three four", "three four five"), ("good", "good but cut")]
    assert [pair["rejected_finished"] for pair in made] == [True, False]
    assert len(by_checks(rows, 2)) == 3
    assert [set(pair) & {"source", "model"} for pair in made] == [set(), set()]


def test_a_pair_reports_what_its_answers_state_of_their_origin():
    rows = [row("a", text, passed=text == "yes", model="big", source={"name": "own"}) for text in ("yes", "no")]
    (pair,) = by_checks(rows, 1)
    assert (pair["model"], pair["source"]) == ("big", {"name": "own"})


def test_an_answer_cut_before_its_first_word_is_not_rejected():
    cut, short = row("a", "", passed=False, finished=False), row("a", "no, not at all", passed=False)
    assert not rejectable(cut)
    assert by_checks([row("a", "yes"), cut], 1) == []
    assert texts(by_checks([row("a", "yes"), cut, short], 2)) == [("yes", "no, not at all")]
    assert texts(by_checks([row("a", "yes"), row("a", "", passed=False)], 1)) == [("yes", "")]  # it is finished


def test_by_scores_the_highest_is_paired_with_the_lowest():
    rows = [row("a", text, score=score) for text, score in [("w", 5.0), ("x", 1.0), ("y", 3.0), ("z", 4.0)]]
    made = by_scores(rows, 3)
    assert texts(made) == [("w", "x"), ("z", "y")]
    assert [(pair["score_chosen"], pair["score_rejected"]) for pair in made] == [(5.0, 1.0), (4.0, 3.0)]
    assert texts(by_scores(rows, 1)) == [("w", "x")]


def test_by_scores_what_was_cut_is_never_chosen():
    rows = [
        row("a", "best but cut", score=9.0, finished=False),
        row("a", "fine", score=2.0),
        row("a", "bad", score=1.0),
    ]
    assert texts(by_scores(rows, 3)) == [("fine", "bad")]
    low = [row("a", "fine", score=2.0), row("a", "low and cut", score=1.0, finished=False)]
    assert [pair["rejected_finished"] for pair in by_scores(low, 3)] == [False]


def test_by_scores_of_equal_differences_the_nearest_in_length_and_of_equal_scores_a_pair_to_be_counted():
    rows = [row("a", "one two", score=2.0), row("a", "one", score=1.0), row("a", "a b c d e", score=1.0)]
    assert texts(by_scores(rows, 1)) == [("one two", "one")]
    even = by_scores([row("a", "one", score=1.0), row("a", "two", score=1.0)], 1)
    assert [(pair["score_chosen"], pair["score_rejected"]) for pair in even] == [(1.0, 1.0)]
    assert by_scores([row("a", "same", score=2.0), row("a", "same", score=1.0)], 1) == []


def test_contests_are_of_answers_near_in_length_and_the_first_ended():
    rows = [
        row("a", "one two three four five six"),
        row("a", "one", finished=False),
        row("a", "one two"),
        row("a", "a b c d e"),
        row("b", "cut", finished=False),
        row("b", "cut too", finished=False),
    ]
    put = contests(rows, 5)
    assert [(one["completion"][0]["content"], two["completion"][0]["content"]) for one, two in put] == [
        ("one two three four five six", "a b c d e"),
        ("one two", "one"),
    ]
    assert len(contests(rows, 1)) == 1


def test_a_verdict_in_both_orders_makes_a_pair_and_all_others_are_counted():
    good, bad, cut = row("a", "good"), row("a", "bad"), row("a", "cut", finished=False)
    put = [(good, bad), (bad, good), (good, bad), (good, bad), (good, cut), (good, cut)]
    made, counts = by_verdicts(put, ["one", "two", "tie", None, "one", "two"])
    assert texts(made) == [("good", "bad"), ("good", "bad"), ("good", "cut")]
    assert counts == {"ties": 1, "no_verdict": 1, "preferred_unfinished": 1}


@pytest.mark.parametrize("make", [by_checks, by_scores])
def test_where_a_row_came_from_goes_with_its_pair(make):
    source = {"name": "ours", "row": 7}
    rows = [row("a", "yes", score=1.0, source=source), row("a", "no", passed=False, score=0.0, source=source)]
    assert make(rows, 1)[0]["source"] == source
