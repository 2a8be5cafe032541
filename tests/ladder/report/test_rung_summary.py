"""Summary of table.json: columns that fit, and the findings in sentences."""

import pytest

from ladder.report.rung_summary import findings, short_table


def result(score, change=None, unit="%", n=64):
    made_by = {"rows": n, "of": 541, "headline": {"name": "x", "measures": ["x"], "unit": unit, "better": "higher"}}
    return {"score": score, "interval": [score - 5, score + 5], "made_by": made_by, "against_baseline": change}


def change(difference, verdict="no significant difference", p=0.5, p_holm=1.0, n=64):
    ends = {"difference": difference, "low": difference - 2, "high": difference + 2}
    return {**ends, "p": p, "p_holm": p_holm, "gained": 3, "lost": 1, "n": n, "verdict": verdict}


BETTER = change(20.31, "improved", 0.0001, 0.0004)
WORSE = change(-6.0, "regressed", 0.001, 0.003, 20)


def table(**cells):
    base = {"rung": "base", "baseline": "", "benchmarks": {"ifeval": result(20.16), "mtbench": result(5, unit="of 10")}}
    chat = {"ifeval": result(40.47, cells.get("ifeval")), "mtbench": result(4.5, cells.get("mtbench"), "of 10")}
    return [base, {"rung": "sft/chat", "baseline": "base", "benchmarks": chat}]


def test_blocks_of_benchmarks_fit_the_width():
    lines = table(ifeval=BETTER, mtbench=change(-0.5))
    assert short_table(lines, 100).splitlines() == [
        "rung      ifeval, n 64              mtbench (of 10), n 64",
        "base      20.2 [15.2, 25.2]         5.00 [0.00, 10.00]",
        "sft/chat  40.5 [35.5, 45.5] +20.3*  4.50 [-0.50, 9.50] -0.50",
    ]
    assert short_table(lines, 59).splitlines() == [
        "rung      ifeval, n 64",
        "base      20.2 [15.2, 25.2]",
        "sft/chat  40.5 [35.5, 45.5] +20.3*",
        "",
        "rung      mtbench (of 10), n 64",
        "base      5.00 [0.00, 10.00]",
        "sft/chat  4.50 [-0.50, 9.50] -0.50",
    ]
    assert short_table(lines, 60) == short_table(lines, 100)
    assert short_table(lines, 1) == short_table(lines, 59)  # one benchmark, whatever the width


def test_what_improved_by_how_much_and_in_what_time():
    made = {"base": {"seconds": 8.2}, "sft/chat": {"seconds": 161.4}}
    assert findings(table(ifeval=BETTER, mtbench=change(0.1)), made, 200).splitlines() == [
        "Improved, after Holm's correction for 2 comparisons: sft/chat against base on ifeval.",
        "By how much: +20.3 [18.3, 22.3], p (Holm) 0.0004, n 64.",
        "Time to make: sft/chat 161 s; all 2 rungs 170 s.",
    ]


def test_where_nothing_improved_the_summary_says_so():
    lines = table(ifeval=change(4.85, p=0.18), mtbench=change(0.1))
    assert findings(lines, {}, 200).splitlines() == [
        "No rung improved over its baseline, after Holm's correction for 2 comparisons.",
        "The smallest p: sft/chat against base on ifeval, +4.8 [2.8, 6.8], p (Holm) 1, n 64.",
    ]
    assert findings(table(mtbench=WORSE), {"base": {"seconds": None}}, 200).splitlines() == [
        "No rung improved over its baseline, after Holm's correction for 1 comparison.",
        "Regressed: sft/chat against base on mtbench: -6.00 [-8.00, -4.00], p (Holm) 0.003, n 20.",
    ]
    assert findings(table(), {"base": {"seconds": 3.0}}, 200).splitlines() == [
        "No rung was compared: no rung's baseline is in the table.",
        "Time to make: base 3 s.",
    ]


@pytest.mark.parametrize("width", [40, 80, 100])
def test_sentences_are_wrapped(width):
    lines = [*table(ifeval=BETTER, mtbench=WORSE)]
    more = [{**lines[1], "rung": f"dpo/number-{n}"} for n in range(7)]
    text = findings([*lines, *more], {f"dpo/number-{n}": {"seconds": 60.0} for n in range(7)}, width)
    assert max(map(len, text.splitlines())) <= width
    assert "and 3 more" in " ".join(text.split())  # 8 improved, 5 of them are listed
