import numpy as np
import pytest
from scipy import stats

from ladder import statistics
from ladder.eval.compare import HELDOUT, Apart, Headline, compare, corrected, recorded, solved
from ladder.pipeline.stage import UserError

PASSED = Headline(("passed",), "%", "higher")
GRADE = Headline(("grade",), "points", "higher")
LENGTH = Headline(("tokens",), "tokens", "lower")


def passes(results, **columns):
    return [{"key": f"q{n:03}", "measures": {"passed": [passed, 1.0]}, **columns} for n, passed in enumerate(results)]


def test_pass_or_fail_by_hand():
    # 20 prompts: 12 gained, 2 lost, 6 unchanged; McNemar: 2 (1 + 14 + 91) / 2^14.
    first = [0] * 12 + [1] * 2 + [1] * 6
    second = [1] * 12 + [0] * 2 + [1] * 6
    found = compare(passes(first), passes(second), PASSED, title="pico", rung="sft/chat")
    assert (found.first, found.second, found.difference) == (40, 90, pytest.approx(50))
    assert (found.gained, found.lost, found.prompts, found.of) == (12, 2, 20, 20)
    assert found.p == pytest.approx(2 * (1 + 14 + 91) / 2**14)
    assert found.verdict == "improved"
    change = np.array(second) - np.array(first)
    expected = stats.bootstrap(
        (change,), np.mean, method="percentile", n_resamples=10_000, rng=np.random.default_rng(0)
    )
    assert [found.low, found.high] == pytest.approx([100 * end for end in expected.confidence_interval])
    assert list(found.changed.items())[:3] == [("q012", (100, 0)), ("q013", (100, 0)), ("q000", (0, 100))]


def test_prompts_are_matched_by_name_and_wording():
    first, second = passes([1, 0, 1, 0], prompt="Say it."), passes([1, 1, 1, 1], prompt="Say it.")[::-1]
    assert compare(first, second, PASSED, title="pico", rung="base").changed == {"q001": (0, 100), "q003": (0, 100)}
    second[0] = {**second[0], "prompt": "Say something else."}  # q003
    found = compare(first, [*second, {"key": "q9", "measures": {"passed": [1, 1]}}], PASSED, title="pico", rung="base")
    assert (found.changed, found.prompts, found.of) == ({"q001": (0, 100)}, 3, 5)
    assert (found.first, found.second) == (pytest.approx(200 / 3), 100)
    with pytest.raises(Apart, match="pico base: no common prompt among 4 and 4"):
        compare(first, passes([1] * 4, prompt="Say no."), PASSED, title="pico", rung="base")


def test_a_key_that_was_a_number_is_the_same_key():
    first, second = ([{"key": key, "measures": {"passed": [n, 1]}}] for n, key in enumerate((1005, "1005")))
    assert compare(first, second, PASSED, title="pico", rung="base").gained == 1


def test_what_the_judge_could_not_grade_on_one_side_is_left_out_of_both():
    generator = np.random.default_rng(3)
    turns = generator.integers(1, 3, (2, 30))
    sums = turns * generator.integers(1, 11, (2, 30))
    first, second = (
        [{"key": f"{n:02}", "measures": {"grade": [sums[side, n], turns[side, n]]}} for n in range(30)]
        for side in (0, 1)
    )
    first[4]["measures"]["grade"] = [0, 0]
    found = compare(first, second, GRADE, title="pico", rung="base")
    kept = np.arange(30) != 4
    assert (found.prompts, found.of, found.unit) == (29, 30, "points")
    assert found.first == pytest.approx(sums[0, kept].sum() / turns[0, kept].sum())
    expected = statistics.paired(*(side[kept].astype(float) for side in (*sums, *turns)))
    assert [found.difference, found.low, found.high, found.p] == [
        expected[key] for key in ("difference", "low", "high", "p")
    ]
    with pytest.raises(Apart, match="grade: no common prompt of 1 has it in both"):
        compare(first[4:5], second, GRADE, title="pico", rung="base")


def test_less_is_better_where_the_measure_says_so():
    first = [{"key": str(n), "measures": {"tokens": [50 + n, 1]}} for n in range(40)]
    second = [{"key": str(n), "measures": {"tokens": [60 + n, 1]}} for n in range(40)]
    found = compare(first, second, LENGTH, title="pico", rung="base")
    assert (found.difference, found.verdict, found.gained, found.lost) == (pytest.approx(10), "regressed", 0, 40)
    found = compare(second, first, LENGTH, title="pico", rung="base")
    assert (found.difference, found.verdict, found.gained, found.lost) == (pytest.approx(-10), "improved", 40, 0)


def test_rows_of_another_score_or_of_one_key_are_reported():
    other = [{"key": "q000", "measures": {"solved": [1, 1]}}]
    with pytest.raises(Apart, match="pico base: new row 1: no 'passed', which the score needs"):
        compare(passes([1, 1]), other, PASSED, title="pico", rung="base")
    with pytest.raises(UserError, match="pico base: old row 3: duplicate key 'q000'"):
        compare([*passes([1, 1]), *passes([0])], passes([1]), PASSED, title="pico", rung="base")


def test_the_samples_of_a_held_out_prompt_are_one_cluster():
    first = [{"id": name, "passed": checks} for name, checks in [("a", [True, False]), ("a", [True]), ("b", [True])]]
    second = [{"id": name, "passed": checks} for name, checks in [("a", [True]), ("a", [True]), ("b", [True])]]
    sides = solved(first, "old.jsonl"), solved(second, "new.jsonl")
    found = compare(*sides, HELDOUT, title="heldout/problems/maths", rung="base")
    assert (found.first, found.prompts, found.changed) == (pytest.approx(200 / 3), 2, {"a": (50, 100)})
    with pytest.raises(UserError, match=r"old.jsonl: row 2: not a row of the stage heldout: KeyError\('passed'\)"):
        solved([first[0], {"id": "c"}], "old.jsonl")


def test_a_summary_says_what_the_score_is_made_of():
    headline = {"name": "mean", "measures": ["a", "b"], "unit": "%", "better": "lower"}
    assert recorded({"made_by": {"headline": headline}}, "s.json") == Headline(("a", "b"), "%", "lower")
    with pytest.raises(UserError, match="s.json: expected made_by.headline"):
        recorded({"made_by": {}}, "s.json")


def test_ifeval_is_the_mean_of_prompts_and_instructions():
    generator = np.random.default_rng(4)
    sizes = generator.integers(1, 4, 60).tolist()
    follows = [[(generator.random(size) < share).tolist() for size in sizes] for share in (0.5, 0.6)]
    first, second = (
        [
            {"key": str(n), "measures": {"prompt": [all(said), 1], "instruction": [sum(said), len(said)]}}
            for n, said in enumerate(side)
        ]
        for side in follows
    )
    found = compare(first, second, Headline(("prompt", "instruction"), "%", "higher"), title="ifeval", rung="base")

    sides = [np.array([[all(said), sum(said)] for said in side], dtype=float).T for side in follows]
    asked = np.array(sizes, dtype=float)

    def shift(a, b, c, d, n, axis):
        return ((c - a).sum(axis=axis) / a.shape[axis] + (d - b).sum(axis=axis) / n.sum(axis=axis)) / 2

    expected = stats.bootstrap(
        (*sides[0], *sides[1], asked),
        shift,
        paired=True,
        method="percentile",
        n_resamples=10_000,
        rng=np.random.default_rng(0),
    )
    assert [found.low, found.high] == pytest.approx([100 * end for end in expected.confidence_interval])
    assert found.difference == pytest.approx(100 * shift(*sides[0], *sides[1], asked, axis=0))
    moved = ((sides[1] - sides[0]) / np.array([[60], [asked.sum()]])).mean(axis=0)
    swap = stats.permutation_test(
        (moved, np.zeros(60)),
        lambda a, b, axis: (a - b).sum(axis=axis),
        vectorized=True,
        permutation_type="samples",
        n_resamples=20_000,
        rng=np.random.default_rng(1),
    )
    assert 0.01 < swap.pvalue < 0.9
    assert found.p == pytest.approx(swap.pvalue, abs=0.015)  # both are sampled: three standard deviations at p = 0.5


def test_holm_takes_back_what_one_of_many_comparisons_claims():
    multitest = pytest.importorskip("statsmodels.stats.multitest", reason="needs statsmodels (extra dev)")
    pairs = [([0] * 9 + [1] * 11, [1] * 9 + [1] * 11), ([0] * 6 + [1] * 14, [1] * 20), ([1, 0] * 10, [1, 0] * 10)]
    alone = [compare(passes(a), passes(b), PASSED, title="pico", rung=str(n)) for n, (a, b) in enumerate(pairs)]
    assert [change.verdict for change in alone] == [
        "improved",
        "improved",
        "no significant difference",
    ]  # p = 2/2^9, 2/2^6, 1
    found = corrected(alone)
    assert [change.holm for change in found] == pytest.approx(
        multitest.multipletests([change.p for change in alone], method="holm")[1].tolist()
    )
    assert [change.verdict for change in found] == [
        "improved",
        "no significant difference",
        "no significant difference",
    ]
