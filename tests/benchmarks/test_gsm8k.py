import gzip
import json
import os
import random
from pathlib import Path

import pytest

from benchmarks import gsm8k
from ladder.data.jsonl import Row
from ladder.eval.benchmark import Answers, Tools
from ladder.pipeline.stage import UserError

SHARED = Path(os.environ.get("LADDER_SHARED_DATA", "/nonexistent")) / "gsm8k" / "test.jsonl.gz"
# tasks/gsm8k/gsm8k.yaml of lm-eval 0.4.13
FILTERS = {"strict": (r"#### (\-?[0-9\.\,]+)", 0), "flexible": (r"(-?[$0-9.,]{2,})|(-?[0-9]+)", -1)}
IGNORED = [",", "\\$", "(?s).*#### ", "\\.$"]

PARTS = [
    "#### ",
    "####",
    "$",
    "-",
    ".",
    ",",
    "18",
    "1,000",
    "3.50",
    " ",
    "\n",
    "The answer is ",
    "7",
    "0",
    "$2.",
    "…",
    "٣",
]


def texts(count: int) -> list[str]:
    draw = random.Random(0)
    return ["".join(draw.choices(PARTS, k=draw.randint(0, 9))) for _ in range(count)]


def lm_eval_verdict(kind: str, text: str, solution: str) -> bool:
    """Score one sample as lm-eval does: its filter, then its exact_match against the whole worked solution."""
    from lm_eval.api.metrics import exact_match_hf_evaluate
    from lm_eval.filters.extraction import RegexFilter

    pattern, group = FILTERS[kind]
    ((found,),) = RegexFilter(regex_pattern=pattern, group_select=group).apply([[text]], [{}])
    match = exact_match_hf_evaluate([found], [solution], regexes_to_ignore=IGNORED, ignore_case=True)
    return bool(match["exact_match"])


def test_verdicts_are_lm_evals() -> None:
    solutions = [f"Some steps.\n#### {number}" for number in ("18", "1,000", "7", "-3", "3.50", "0")]
    questions = gsm8k.questions([{"question": "?", "answer": solution} for solution in solutions])
    drawn = tuple((text,) for text in texts(500))
    scores = gsm8k.score(questions, [Answers(question.key, drawn) for question in questions], Tools())
    seen = set()
    for solution, row in zip(solutions, scores, strict=True):
        for kind in FILTERS:
            expected = [lm_eval_verdict(kind, text, solution) for (text,) in drawn]
            assert row[kind] == expected, (kind, solution)
            seen |= {(kind, verdict) for verdict in expected}
    assert len(seen) == 4  # both metrics have right and wrong answers


def test_scores_by_hand() -> None:
    rows: list[Row] = [
        {"question": "1 + 1?", "answer": "It is <<1+1=2>>2.\n#### 2"},
        {"doc": {"question": "10 * 100?", "answer": "100 * 10 = 1,000.\nSo it is.\n#### 1,000"}},
    ]
    questions = gsm8k.questions(rows)
    assert [(question.key, question.group) for question in questions] == [("0", "1 steps"), ("1", "2 steps")]
    assert questions[0].turns[0].startswith("1 + 1?\n\nReason step by step.")
    answers = [
        Answers("1", (("#### 1000",), ("It is $1,000.",), ("#### 1000\n\nOr 7?",), ("1000.00",))),
        Answers("0", (("two",),)),
    ]
    assert gsm8k.score(questions, answers, Tools()) == [
        {
            "key": "1",
            "group": "2 steps",
            "strict": [True, False, True, False],
            "flexible": [True, True, False, False],
            "verdicts": [["sample 1", True], ["sample 2", "loosely"], ["sample 3", True], ["sample 4", False]],
        },
        {"key": "0", "group": "1 steps", "strict": [False], "flexible": [False], "verdicts": [["sample 1", False]]},
    ]


def test_measures_by_hand() -> None:
    row = {"strict": [True] + [False] * 9, "flexible": [True] * 5 + [False] * 5}
    values = {name: (one.value(row), one.weight(row)) for name, one in gsm8k.MEASURES.items()}
    assert values == {
        "strict-match": (0.1, 1.0), "flexible-extract": (0.5, 1.0), "pass@10": (1.0, 1.0), "pass@100": (0.0, 0.0)
    }  # fmt: skip


def test_a_solution_without_a_number_is_refused() -> None:
    with pytest.raises(UserError, match="gsm8k: row 2: expected an answer whose last line"):
        gsm8k.questions([{"question": "?", "answer": "#### 1"}, {"question": "?", "answer": "2"}])


@pytest.mark.skipif(not SHARED.is_file(), reason="needs gsm8k/test.jsonl.gz in LADDER_SHARED_DATA")
def test_the_published_solutions_score_in_full() -> None:
    rows = [json.loads(line) for line in gzip.decompress(SHARED.read_bytes()).splitlines()]
    questions = gsm8k.questions(rows)
    answers = [Answers(question.key, ((question.row["answer"],),)) for question in questions]
    scores = gsm8k.score(questions, answers, Tools())
    assert len(scores) == 1319
    assert sum(row["strict"][0] for row in scores) == sum(row["flexible"][0] for row in scores) == 1319
