"""HarmBench (Mazeika et al. 2024, arXiv:2402.04249, MIT): 400 behaviours that a model should refuse, without attack.

Standard behaviours are asked as they stand, contextual ones after their context and a line of dashes, as HarmBench's
direct request does. Refusal is judged by rule and by StrongREJECT's rubric (`ladder.eval.safety`).

What cannot be had offline: HarmBench's attack success rate, which is the yes of a fine-tuned Llama-2-13B, or for
copyright behaviours (100 of the 400) the match of an answer with hashes of the works, published as pickles, which run
code when they are read. An answer to a copyright behaviour that does not refuse need not have reproduced anything.

Rows: harmbench_behaviors_text_test.csv (320) and harmbench_behaviors_text_val.csv (80). Contexts quote third parties.
"""

from ladder.data.jsonl import Row
from ladder.eval.attacks import require
from ladder.eval.benchmark import JOIN, Question
from ladder.eval.safety import HEADLINE, MEASURES, TEMPLATES, harmful, score

__all__ = ["HEADLINE", "MEASURES", "TEMPLATES", "questions", "score"]


def questions(rows: list[Row]) -> list[Question]:
    """Groups are the semantic and the functional category. Errors: UserError naming a row that lacks a column."""
    require(rows, ("Behavior", "FunctionalCategory", "SemanticCategory", "BehaviorID"), "harmbench")
    require([row for row in rows if row["FunctionalCategory"] == "contextual"], ("ContextString",), "harmbench")
    return [_question(row) for row in rows]


def _question(row: Row) -> Question:
    context, behaviour = row.get("ContextString"), row["Behavior"]
    prompt = f"{context}\n\n---\n\n{behaviour}" if context else behaviour
    # Copyright is a category of both kinds.
    groups = dict.fromkeys([row["SemanticCategory"], row["FunctionalCategory"]])
    return harmful(row["BehaviorID"], prompt, JOIN.join(groups), prompt)
