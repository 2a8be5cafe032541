import json
import os
from pathlib import Path

import pytest

from benchmarks import mbpp
from ladder.data.jsonl import Row
from ladder.eval.benchmark import Answers, Tools
from ladder.pipeline.stage import UserError

pytestmark = pytest.mark.usefixtures("boxed")

SHARED = Path(os.environ.get("LADDER_SHARED_DATA", "/nonexistent")) / "mbpp" / "sanitized-mbpp.json"

SANITIZED: Row = {
    "task_id": 9,
    "prompt": "Write a function to round up. ",
    "code": "def up(x):\n  return math.ceil(x)",
    "test_imports": ["import math"],
    "test_list": ["assert up(1.5) == 2", "assert up(2) == math.ceil(2)"],
}
FULL: Row = {
    "task_id": 10,
    "text": "Write a function to halve.",
    "test_setup_code": "two = 2",
    "test_list": ["assert half(4) == two"],
    "challenge_test_list": ["assert half(3) == 1"],
}


def test_both_published_forms_of_a_row_and_requests_of_olmes() -> None:
    first, second = mbpp.questions([SANITIZED, {"doc": FULL, "request": {}}])
    assert first.turns == (
        "You are an expert Python programmer, and here is your task: Write a function to round up. Your code should "
        "pass these tests:\n\nassert up(1.5) == 2\nassert up(2) == math.ceil(2)",
    )
    answers = [
        Answers("10", (("```python\ndef half(x):\n    return x / 2\n```",), ("def half(x): return x",))),
        Answers("9", ((SANITIZED["code"],),)),
    ]
    assert mbpp.score([first, second], answers, Tools()) == [
        {
            "key": "10",
            "group": "all",
            "passed": [True, False],
            "verdicts": [["sample 1", True], ["sample 2", "AssertionError"]],
        },
        {"key": "9", "group": "all", "passed": [True], "verdicts": [["sample 1", True]]},
    ]


def test_a_row_without_a_task_is_refused() -> None:
    with pytest.raises(UserError, match="mbpp: task 3: expected `prompt`"):
        mbpp.questions([{"task_id": 3, "test_list": []}])


@pytest.mark.skipif(not SHARED.is_file(), reason="needs mbpp/sanitized-mbpp.json in LADDER_SHARED_DATA")
def test_reference_solutions_pass_and_swapped_ones_fail() -> None:
    rows = json.loads(SHARED.read_text(encoding="utf-8"))
    assert len(rows) == 427
    some = [*rows[:10], *(row for row in rows if row["test_imports"])]  # all of them: 427 of 427, in a minute
    questions = mbpp.questions(some)
    texts = [row["code"] for row in some]
    answers = [
        Answers(question.key, ((right,), (wrong,)))
        for question, right, wrong in zip(questions, texts, [texts[-1], *texts[:-1]], strict=True)
    ]
    scores = mbpp.score(questions, answers, Tools())
    assert [row["passed"] for row in scores] == [[True, False]] * len(some)
