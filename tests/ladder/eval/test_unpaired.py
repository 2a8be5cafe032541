"""Comparison of summaries: the method's published example, Holm's correction, and the files that git keeps."""

import pytest
from scipy import stats

from ladder.eval import unpaired
from ladder.eval.compare import Apart
from ladder.eval.unpaired import Summary, compare, corrected, summaries


def score(value, low, high, n=64, unit="%", better="higher"):
    return Summary(value, low, high, n, unit, better)


def test_the_interval_is_that_of_newcombe_for_two_proportions():
    # Newcombe, Statistics in Medicine 17 (1998), table II, method 10: 56/70 - 48/80 = 0.2 [0.0524, 0.3339], from the
    # Wilson intervals of the two proportions. MOVER is its generalization.
    low, high = stats.binomtest(56, 70).proportion_ci(method="wilson")
    other_low, other_high = stats.binomtest(48, 80).proportion_ci(method="wilson")
    found = compare("x", "a", score(60, 100 * other_low, 100 * other_high), score(80, 100 * low, 100 * high))
    assert [found.difference, found.low, found.high] == pytest.approx([20, 5.24, 33.39], abs=0.005)
    assert found.verdict == "improved" and found.p < 0.05


def test_p_is_that_of_a_normal_distribution_with_this_interval():
    # Half widths 3 and 4 make one of 5, so the standard error is 5 / 1.96.
    found = compare("x", "a", score(20, 17, 23), score(30, 26, 34))
    assert (found.low, found.high) == (5, 15)
    assert found.p == pytest.approx(2 * stats.norm.sf(10, scale=5 / 1.959964), rel=1e-5)
    at_the_edge = compare("x", "a", score(20, 17, 23), score(25, 21, 29))
    assert (at_the_edge.low, at_the_edge.p) == (0, pytest.approx(0.05))
    assert compare("x", "a", score(20, 17, 23), score(20, 16, 29)).p == 1
    assert compare("x", "a", score(20, 20, 20), score(21, 21, 21)).p == 0


def test_the_verdict_needs_holms_correction_and_the_direction_of_the_score():
    better = compare("x", "a", score(20, 17, 23), score(30, 26, 34))
    worse = compare("x", "b", score(20, 17, 23, better="lower"), score(30, 26, 34, better="lower"))
    weak = [compare("x", f"c{n}", score(20, 17, 23), score(25.5, 21.5, 29.5)) for n in range(2)]
    assert weak[0].p == pytest.approx(0.0311, abs=5e-5) and weak[0].verdict == "improved"
    found = corrected([better, worse, *weak])
    assert [one.verdict for one in found] == ["improved", "regressed", *2 * ["no significant difference"]]
    assert [one.holm for one in found] == pytest.approx([4 * better.p, 4 * better.p, 2 * weak[0].p, 2 * weak[0].p])
    assert corrected([]) == []


def test_scores_of_different_units_are_not_compared():
    with pytest.raises(Apart, match="^mtbench a: scores of different units: % and of 10$"):
        compare("mtbench", "a", score(20, 17, 23), score(5, 4, 6, unit="of 10"))


class Files:
    """A revision with files."""

    label = "v1"

    def __init__(self, **files):
        self.files = files

    def text(self, path):
        return self.files.get(path.removeprefix("report/").removesuffix(".json"))


def test_scores_of_the_table_and_of_held_out_problems_are_read():
    table = """[{"rung": "sft/chat", "benchmarks": {"ifeval": {"score": 25.0, "interval": [16.9, 33.8], "made_by":
        {"rows": 64, "headline": {"name": "x", "measures": ["x"], "unit": "%", "better": "higher"}}}}}]"""
    claims = '{"rungs": {"sft/words": {"measures": {"heldout/words": [20.3, 13.3, 27.3], "accuracy": [50, 40, 60]}}}}'
    assert summaries(Files(table=table, claims=claims)) == {
        ("ifeval", "sft/chat"): score(25.0, 16.9, 33.8),
        ("heldout/words", "sft/words"): score(20.3, 13.3, 27.3, n=None),
    }
    assert summaries(Files()) == {}
    for text, problem in (("{", "JSONDecodeError"), ("[{}]", "KeyError: 'benchmarks'"), ("[3]", "TypeError")):
        with pytest.raises(Apart, match=f"^report/table.json at v1: not in the form that is written now: {problem}"):
            summaries(Files(table=text))


def test_the_table_shows_both_numbers_of_questions_where_they_differ():
    found = [
        compare("ifeval", "a", score(20, 17, 23, n=64), score(30, 26, 34, n=541)),
        compare("mtbench", "a", *(score(5 + n / 4, 4, 7, n=8, unit="of 10") for n in (0, 1))),
    ]
    rows = unpaired.table(found, "v1", "v2")
    assert rows[0] == ["unpaired", "rung", "v1", "v2", "difference [95% CI]", "p", "p (Holm)", "n", "verdict"]
    assert rows[1] == [
        "ifeval", "a", "20.0", "30.0", "+10.0 [5.0, 15.0]", "8.9e-05", "8.9e-05", "64 and 541", "improved"
    ]  # fmt: skip
    assert rows[2][2:5] == ["5.00", "5.25", "+0.25 [-2.11, 2.27]"] and rows[2][7] == "8"
