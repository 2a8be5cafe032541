"""IFEval (Zhou et al. 2023, arXiv:2311.07911; data CC-BY-4.0): 541 prompts with instructions that a program can check.

The checks are lm-eval's own. Its seeds, which it leaves open, are fixed (see ladder/instructions.py). The mean of
prompt- and instruction-level strict accuracy is what model makers quote as "IFEval".
"""

import logging

from ladder import instructions
from ladder.benchmarking import Answers, Question, Tools
from ladder.instructions import MEANS as MEANS
from ladder.instructions import MEASURES as MEASURES
from ladder.instructions import questions as questions
from ladder.rows import Row

HEADLINE = MEANS["mean_strict"]
PACKAGES = ("lm_eval",)


def score(questions: list[Question], answers: list[Answers], tools: Tools) -> list[Row]:
    """Rows with "strict" and "loose", a bool for each instruction. Errors: Refused without `tools.punkt`'s data."""
    instructions.nltk_data(tools.punkt)
    from lm_eval.tasks.ifeval import utils

    # It would print in full every answer whose language it cannot tell.
    logging.getLogger("lm_eval.tasks.ifeval.instructions").setLevel(logging.CRITICAL)

    def example(row: Row) -> utils.InputExample:
        return utils.InputExample(row["key"], row["instruction_id_list"], row["prompt"], row["kwargs"])

    return instructions.score(
        questions,
        answers,
        lambda row, text: utils.test_instruction_following_strict(example(row), text).follow_instruction_list,
        lambda row, text: utils.test_instruction_following_loose(example(row), text).follow_instruction_list,
    )
