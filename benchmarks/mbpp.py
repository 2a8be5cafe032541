"""MBPP, sanitized (Austin et al. 2021, arXiv 2108.07732; CC-BY-4.0): 427 small Python tasks, each with its tests.

An answer passes when all of its task's assertions pass in the sandbox; the score is pass@k. The request is the paper's.
It shows the tests, because without them the function's name is unknown. The paper's three worked examples are left out:
they show a base model the form of an answer, and a chat model has its own.

Both published forms of a row are read: sanitized (prompt, test_imports) and full (text, test_setup_code). Their scores
are not comparable: the sanitized tasks are a subset of the 974 full ones, with wording and tests corrected by hand.
"""

from collections.abc import Sequence

from ladder.data.jsonl import Row
from ladder.eval import code_execution
from ladder.eval.benchmark import Answers, Question, Tools
from ladder.pipeline.stage import UserError
from ladder.verifiers import answer_program, sandbox

MEASURES = code_execution.pass_measures("passed", (1, 10, 100))
HEADLINE = ("pass@1",)
REQUEST = (
    "You are an expert Python programmer, and here is your task: {task} Your code should pass these tests:\n\n{tests}"
)

needs = sandbox.isolation


def questions(rows: Sequence[Row]) -> list[Question]:
    """Build the questions from rows of task_id, test_list, and either prompt, test_imports or text, test_setup_code; or
    from OLMES's requests, which hold them under `doc`."""
    return [_question(row.get("doc", row)) for row in rows]


def _question(row: Row) -> Question:
    task = row.get("prompt", row.get("text"))
    if not isinstance(task, str):
        raise UserError(f"mbpp: task {row.get('task_id')}: expected `prompt` (sanitized) or `text` (full)")
    request = REQUEST.format(task=task.strip(), tests="\n".join(row["test_list"]))
    return Question(str(row["task_id"]), (request,), "all", row)


def program(row: Row, answer: str) -> sandbox.Program:
    """Build the answer's program and its tests, which run in a process of their own."""
    setup = [*row.get("test_imports", []), row.get("test_setup_code", "")]
    tests = "\n".join([*setup, *row["test_list"]])
    return sandbox.Program(answer_program.code(answer, answer_program.called(row["test_list"])), tests)


def score(questions: Sequence[Question], answers: Sequence[Answers], tools: Tools) -> list[Row]:
    """Score answers: {"key", "group", "passed": [bool per sample], "verdicts": [[sample, true or how it ended]]}."""
    return code_execution.score(questions, answers, program)
