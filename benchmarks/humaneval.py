"""HumanEval (Chen et al. 2021, arXiv 2107.03374; MIT): 164 Python functions, written from their docstrings.

An answer passes when its problem's tests pass in the sandbox; the score is pass@k by the paper's unbiased estimator.
The program is that of the published harness: prompt, answer, tests, `check(function)`. An answer may be a chat reply
(ladder.verifiers.answer_program finds its program), the whole function, or a continuation of the prompt, as most
published samples are.

The request is EvalPlus's (Liu et al. 2023, arXiv 2305.01210), whose leaderboard has instruction-tuned models. It asks
for one block of code, and that block is read. EvalPlus and lm-eval also prefill the start of the answer. This is left
out, because no chat endpoint accepts it; small models score lower without it.
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
    """Build the questions from rows of task_id, prompt, entry_point, canonical_solution and test."""
    return [
        Question(row["task_id"], (f"{REQUEST}\n```python\n{row['prompt'].strip()}\n```",), "all", row) for row in rows
    ]


def program(row: Row, answer: str) -> sandbox.Program:
    """Build the answer's program and its tests, which run in a process of their own."""
    function = row["entry_point"]
    body = answer_program.continuation(answer_program.code(answer, function, row["prompt"]), function)
    tests = f"{row['test']}\ncheck({function})"
    if HELPER.search(row["prompt"], row["prompt"].index("def ") + 1):
        # The tests call the prompt's helpers, so they are defined again: the answer must not redefine them.
        tests = f"{row['prompt']}\ndel {function}\n{tests}"
    return sandbox.Program(f"{answer_program.before(row['prompt'], body, function)}{body}", tests)


def score(questions: Sequence[Question], answers: Sequence[Answers], tools: Tools) -> list[Row]:
    """Score answers: {"key", "group", "passed": [bool per sample], "verdicts": [[sample, true or how it ended]]}."""
    return code_execution.score(questions, answers, program)
