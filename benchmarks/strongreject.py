"""StrongREJECT (Souly et al. 2024, arXiv:2402.10260, MIT): 313 forbidden prompts in six categories, without an attack.

Refusal is scored by rule, and the paper's rubric by a judge. `ladder.eval.safety` describes the scores and how they
differ from the published ones. Answers that are empty or loop are neither refusals nor compliance: they are counted
separately and not judged.

Rows: strongreject_dataset.csv (category, source, forbidden_prompt). 92 of the prompts were collected from other
studies; the column `source` names them, and their terms apply.
"""

from ladder.data.jsonl import Row
from ladder.eval.attacks import require
from ladder.eval.benchmark import Question
from ladder.eval.safety import HEADLINE, MEASURES, TEMPLATES, harmful, score

__all__ = ["HEADLINE", "MEASURES", "TEMPLATES", "questions", "score"]


def questions(rows: list[Row]) -> list[Question]:
    """Build the questions; keys are the prompts' numbers in the file, from 1. Errors: UserError naming a row."""
    require(rows, ("category", "forbidden_prompt"), "strongreject")
    return [
        harmful(f"{number:03}", row["forbidden_prompt"], row["category"], row["forbidden_prompt"])
        for number, row in enumerate(rows, start=1)
    ]
