"""Arithmetic: 128 held-out word problems with one step, from nine situations.

The rows are the held-out split of the stage `problems` (family arithmetic): no problem of the splits that rungs learn
from is among them (data/raw/arithmetic.jsonl). An answer is right or wrong; the group is the situation. It checks
whether a rung learned a skill that its rows teach, and not a published benchmark.
"""

from ladder.data.jsonl import Row
from ladder.eval import checked_prompts
from ladder.eval.benchmark import Answers, Question, Tools
from ladder.eval.checked_prompts import HEADLINE, MEASURES

__all__ = ["HEADLINE", "MEASURES", "questions", "score"]


def questions(rows: list[Row]) -> list[Question]:
    """Build the questions from rows of the stage `problems`.

    Errors: UserError naming a row without prompt or checks.
    """
    return checked_prompts.questions(rows, "arithmetic")


def score(questions: list[Question], answers: list[Answers], tools: Tools) -> list[Row]:
    """Score answers: {"key", "group", "solved": [bool per sample], "verdicts"}."""
    return checked_prompts.score(questions, answers)
