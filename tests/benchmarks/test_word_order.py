import pytest

from benchmarks import arithmetic, word_order
from conftest import ROOT, user
from ladder.data.jsonl import read_rows
from ladder.eval.benchmark import Answers, Tools
from ladder.eval.registry import asked, benchmark
from ladder.pipeline.stage import UserError

TASKS = {name: ROOT / f"data/raw/{name}.jsonl" for name in ("word_order", "arithmetic")}


@pytest.mark.parametrize("name", TASKS)
def test_every_solution_solves_its_problem_and_no_other(name: str) -> None:
    rows, found = read_rows(TASKS[name]), benchmark(name)
    questions = asked(found, rows, TASKS[name])
    texts = [row["completion"][0]["content"] for row in rows]
    right = [Answers(question.key, ((text,),)) for question, text in zip(questions, texts, strict=True)]
    assert [row["solved"] for row in found.score(questions, right, Tools())] == [[True]] * 128
    wrong = [Answers(question.key, ((text,),)) for question, text in zip(questions, texts[1:] + texts[:1], strict=True)]
    checks = [row["checks"] for row in rows]
    alike = sum(one == other for one, other in zip(checks, checks[1:] + checks[:1], strict=True))
    assert sum(row["solved"][0] for row in found.score(questions, wrong, Tools())) == alike <= 1
    assert found.title == "solved"


def test_samples_of_an_answer_are_scored_one_by_one() -> None:
    (question,) = word_order.questions(read_rows(TASKS["word_order"])[:1])
    assert question.turns[0].startswith("Swap the first and the last word: notebooks, stickers, apricots.")
    said = ("#### apricots, stickers, notebooks", "#### notebooks, stickers, apricots", "apricots, stickers, notebooks")
    (row,) = word_order.score([question], [Answers(question.key, tuple((text,) for text in said))], Tools())
    assert row["solved"] == [True, False, False]
    assert row["verdicts"] == [["sample 1", True], ["sample 2", False], ["sample 3", False]]
    assert (row["key"], row["group"]) == ("swap-notebooks-stickers-apricots", "swap")


def test_a_number_is_read_as_a_number() -> None:
    (question,) = arithmetic.questions(read_rows(TASKS["arithmetic"])[:1])
    said = ("7 * 15 = 105.\n#### 105", "#### 105.0", "#### 15")
    (row,) = arithmetic.score([question], [Answers(question.key, tuple((text,) for text in said))], Tools())
    assert row["solved"] == [True, True, False]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"id": "a-1", "prompt": "Why?", "checks": [{}]}, "arithmetic: row 1: prompt: expected one user message"),
        ({"id": "a-1", "prompt": user("Why?"), "checks": []}, "arithmetic: row 1: checks: expected at least one"),
    ],
)
def test_a_row_without_prompt_or_checks_is_refused(row: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        arithmetic.questions([row])
