"""HumanEval (Chen et al. 2021, arXiv 2107.03374; MIT): 164 Python functions, written from their docstrings.

Scored is whether an answer passes its problem's tests in the sandbox, as pass@k by the paper's unbiased estimator. The
program is the published harness's: prompt, answer, tests, `check(function)`. An answer may be a chat's
(ladder.verifiers.answer_program says how its program is found), the whole function, or a continuation of the prompt, as
most published samples are.

The request is EvalPlus's (Liu et al. 2023, arXiv 2305.01210), whose leaderboard is of instruction-tuned models: it asks
for one block of code, which is what is read. The start of an answer that EvalPlus and lm-eval put into the model's
mouth is left out, since no chat endpoint takes it; scores of small models are lower for it.
"""

import re
from collections.abc import Sequence

from ladder.data.jsonl import Row
from ladder.eval import code_execution
from ladder.eval.benchmark import Answers, Question, Tools
from ladder.verifiers import answer_program, sandbox

MEASURES = code_execution.pass_measures("passed", (1, 10, 100))
HEADLINE = ("pass@1",)
REQUEST = "Please provide a self-contained Python script that solves the following problem in a markdown code block:"

HELPER = re.compile(r"^def ", re.M)

needs = sandbox.isolation


def questions(rows: Sequence[Row]) -> list[Question]:
    """rows: task_id, prompt, entry_point, canonical_solution, test."""
    return [
        Question(row["task_id"], (f"{REQUEST}\n```python\n{row['prompt'].strip()}\n```",), "all", row) for row in rows
    ]


def program(row: Row, answer: str) -> sandbox.Program:
    """The answer's program and its tests, which run in a process of their own."""
    function = row["entry_point"]
    body = answer_program.continuation(answer_program.code(answer, function, row["prompt"]), function)
    tests = f"{row['test']}\ncheck({function})"
    if HELPER.search(row["prompt"], row["prompt"].index("def ") + 1):
        # The prompt's helpers, which the tests call, are not the answer's to redefine.
        tests = f"{row['prompt']}\ndel {function}\n{tests}"
    return sandbox.Program(f"{answer_program.before(row['prompt'], body, function)}{body}", tests)


def score(questions: Sequence[Question], answers: Sequence[Answers], tools: Tools) -> list[Row]:
    """Returns {"key", "group", "passed": [bool, one a sample], "verdicts": [[sample, true or how else it ended]]}."""
    return code_execution.score(questions, answers, program)
