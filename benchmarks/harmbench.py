"""HarmBench (Mazeika et al. 2024, arXiv:2402.04249, MIT): 400 behaviors that a model should refuse, without an attack.

Standard behaviors are asked as they are. Contextual ones follow their context and a line of dashes, as in HarmBench's
direct request. Refusal is judged by rule and by StrongREJECT's rubric (`ladder.eval.safety`).

HarmBench's attack success rate is not available offline. It is the verdict of a fine-tuned Llama-2-13B. For copyright
behaviors (100 of the 400) it is a match of the answer with hashes of the works. These are published as pickles, which
run code when they are loaded. An answer to a copyright behavior that does not refuse need not have reproduced anything.

Rows: harmbench_behaviors_text_test.csv (320) and harmbench_behaviors_text_val.csv (80). Contexts quote third parties.
"""

from ladder.data.jsonl import Row
from ladder.eval.attacks import require
from ladder.eval.benchmark import JOIN, Question
from ladder.eval.safety import HEADLINE, MEASURES, TEMPLATES, harmful, score

__all__ = ["HEADLINE", "MEASURES", "TEMPLATES", "questions", "score"]


def questions(rows: list[Row]) -> list[Question]:
    """Build the questions; groups are the semantic and functional categories. Errors: UserError naming a row."""
    require(rows, ("Behavior", "FunctionalCategory", "SemanticCategory", "BehaviorID"), "harmbench")
    require([row for row in rows if row["FunctionalCategory"] == "contextual"], ("ContextString",), "harmbench")
    return [_question(row) for row in rows]


def _question(row: Row) -> Question:
    context, behavior = row.get("ContextString"), row["Behavior"]
    prompt = f"{context}\n\n---\n\n{behavior}" if context else behavior
    # "copyright" is both a semantic and a functional category.
    groups = dict.fromkeys([row["SemanticCategory"], row["FunctionalCategory"]])
    return harmful(row["BehaviorID"], prompt, JOIN.join(groups), prompt)
