"""Shared scoring of benchmarks whose prompts carry their checks, as the stages `problems` and `prompts` write them.

An answer solves its prompt when it passes every check of ladder/verifiers.
"""

from ladder.data.jsonl import Row
from ladder.eval.benchmark import Answers, Question
from ladder.eval.code_execution import pass_measures
from ladder.eval.measure import Measure
from ladder.pipeline.stage import UserError
from ladder.verifiers.constraints import meets

MEASURES = {
    "solved": Measure(
        "answers that pass all checks of their prompt",
        "%", "higher", lambda row: sum(row["solved"]) / len(row["solved"]), lambda row: 1.0, True,
    ),
    **pass_measures("solved", (10, 100)),
}  # fmt: skip
HEADLINE = ("solved",)


def questions(rows: list[Row], task: str) -> list[Question]:
    """Build questions from rows of id ("group-…"), prompt (one user message) and checks.

    Errors: UserError naming the task and the row that lacks one of them.
    """
    asked = []
    for number, row in enumerate(rows, start=1):
        prompt = row.get("prompt")
        if not (isinstance(prompt, list) and len(prompt) == 1 and prompt[0].get("role") == "user"):
            raise UserError(f"{task}: row {number}: prompt: expected one user message, got {prompt!r}")
        if not row.get("checks"):
            raise UserError(f"{task}: row {number}: checks: expected at least one, to verify its answers")
        name = str(row["id"])
        asked.append(Question(name, (prompt[0]["content"],), name.partition("-")[0], row))
    return asked


def score(questions: list[Question], answers: list[Answers]) -> list[Row]:
    """Score answers: {"key", "group", "solved": [bool per sample], "verdicts"}."""
    by_key = {question.key: question for question in questions}
    rows = []
    for answer in answers:
        question = by_key[answer.key]
        solved = [all(meets(turns[0], question.row["checks"])) for turns in answer.samples]
        verdicts = [[f"sample {number}", one] for number, one in enumerate(solved, start=1)]
        rows.append({"key": question.key, "group": question.group, "solved": solved, "verdicts": verdicts})
    return rows
