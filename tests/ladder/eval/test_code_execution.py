from itertools import combinations
from math import comb

import pytest

from ladder.eval.benchmark import Answers, Question
from ladder.eval.code_execution import pass_at_k, pass_measures, score
from ladder.pipeline.stage import UserError
from ladder.verifiers import sandbox


def test_pass_at_k_is_the_share_of_draws_that_hold_a_pass() -> None:
    for samples in range(1, 8):
        for passed in range(samples + 1):
            results = [True] * passed + [False] * (samples - passed)
            for k in range(1, samples + 1):
                draws = list(combinations(results, k))
                assert pass_at_k(samples, passed, k) == pytest.approx(sum(map(any, draws)) / len(draws), abs=1e-12)


def test_pass_at_k_of_many_samples() -> None:
    # 1 - C(n-c, k) / C(n, k) in whole numbers, where floating-point binomials overflow
    assert pass_at_k(2000, 31, 1000) == pytest.approx(1 - comb(1969, 1000) / comb(2000, 1000), rel=1e-12)
    assert pass_at_k(200, 3, 100) == pytest.approx(1 - comb(197, 100) / comb(200, 100), rel=1e-12)
    assert pass_at_k(100, 1, 100) == 1.0
    assert pass_at_k(100, 0, 100) == 0.0


@pytest.mark.parametrize(("samples", "passed", "k"), [(5, 1, 6), (5, 6, 1), (5, -1, 1), (5, 1, 0), (0, 0, 1)])
def test_pass_at_k_wants_enough_samples(samples: int, passed: int, k: int) -> None:
    with pytest.raises(ValueError, match="expected 1 <= k <= samples"):
        pass_at_k(samples, passed, k)


def test_a_question_with_too_few_samples_has_no_weight() -> None:
    measures = pass_measures("passed", (1, 2))
    row = {"passed": [True]}
    assert [(one.value(row), one.weight(row)) for one in measures.values()] == [(1.0, 1.0), (0.0, 0.0)]
    row = {"passed": [True, False, False, False]}
    assert [(one.value(row), one.weight(row)) for one in measures.values()] == [(0.25, 1.0), (0.5, 1.0)]


def test_how_samples_ended() -> None:
    try:
        sandbox.isolation()
    except UserError as refused:
        pytest.skip(str(refused))
    texts = (
        "assert f(1) == 1", "assert f(1) == 2", "g(1)", "f(", "raise SystemExit", "import json\njson.loads('{')",
        "print('An Error: no')\nraise KeyboardInterrupt", "if __name__ == '__main__':\n    input()",
        "#" * sandbox.PROGRAM_CHARACTERS,
    )  # fmt: skip
    question = Question("one", ("Write f.",), "all", {"setup": "f = abs"})
    answers = [Answers("one", tuple((text,) for text in texts))]
    (row,) = score([question], answers, lambda row, answer: f"{row['setup']}\n{answer}")
    assert row["passed"] == [True, False, False, False, False, False, False, True, False]
    endings = [
        True, "AssertionError", "NameError", "SyntaxError", "failed", "JSONDecodeError", "failed", True, "refused"
    ]  # fmt: skip
    assert row["verdicts"] == [[f"sample {number}", how] for number, how in enumerate(endings, start=1)]


def test_tests_run_apart_from_the_answer() -> None:
    try:
        sandbox.isolation()
    except UserError as refused:
        pytest.skip(str(refused))
    texts = ("def f(x): return x", "def f(x): return 2", "import os\nos._exit(0)", "def f(x): raise SystemExit(0)")
    question = Question("one", ("Write f.",), "all", {"tests": "assert f(1) == 1"})
    answers = [Answers("one", tuple((text,) for text in texts))]
    (row,) = score([question], answers, lambda row, answer: sandbox.Program(answer, row["tests"]))
    assert row["verdicts"] == [
        ["sample 1", True], ["sample 2", "AssertionError"], ["sample 3", "failed"], ["sample 4", "failed"]
    ]  # fmt: skip
