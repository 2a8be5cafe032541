"""IFEval (Zhou et al. 2023, arXiv:2311.07911; data CC-BY-4.0): 541 prompts with verifiable instructions.

The checks are lm-eval's own. lm-eval does not fix their seeds; ladder/eval/instruction_following.py does. The mean of
prompt- and instruction-level strict accuracy is the number that model cards quote as "IFEval".
"""

import logging
from typing import Any

from ladder.data.jsonl import Row
from ladder.eval import instruction_following
from ladder.eval.benchmark import Answers, Question, Tools
from ladder.eval.instruction_following import MEANS as MEANS
from ladder.eval.instruction_following import MEASURES as MEASURES
from ladder.pipeline.stage import UserError

HEADLINE = MEANS["mean_strict"]
PACKAGES = ("lm_eval",)


def questions(rows: list[Row]) -> list[Question]:
    """Build the questions from rows of key, prompt, instruction_id_list and kwargs (one object per instruction).

    A table written by pandas or Arrow holds 3.0 for 3, and null or NaN for a parameter that an instruction does not
    have; both are accepted. Errors: UserError naming the key of a row with other kwargs.
    """
    return instruction_following.questions([_normalized(row) for row in rows])


def _normalized(row: Row) -> Row:
    names, kwargs = row["instruction_id_list"], row["kwargs"]
    if not (isinstance(kwargs, list) and len(kwargs) == len(names)) or not all(
        one is None or isinstance(one, dict) for one in kwargs
    ):
        raise UserError(
            f"ifeval: key {row['key']!r}: expected kwargs for each of {len(names)} instructions, got {kwargs!r}"
        )
    return {**row, "kwargs": [_parameters(one or {}, row["key"]) for one in kwargs]}


def _parameters(given: Row, key: Any) -> Row:
    found = {}
    for name, value in given.items():
        if value is None or value != value:
            continue
        if isinstance(value, float):
            if not value.is_integer():
                raise UserError(f"ifeval: key {key!r}: kwargs: {name}: expected a whole number, got {value!r}")
            value = int(value)
        found[name] = value
    return found


def score(questions: list[Question], answers: list[Answers], tools: Tools) -> list[Row]:
    """Score answers: rows with "strict" and "loose", a bool per instruction.

    Errors: UserError without the data of `tools.punkt`.
    """
    instruction_following.nltk_data(tools.punkt)
    from lm_eval.tasks.ifeval import utils

    # This logger would print in full every answer whose language it cannot detect.
    logging.getLogger("lm_eval.tasks.ifeval.instructions").setLevel(logging.CRITICAL)

    def example(row: Row) -> utils.InputExample:
        return utils.InputExample(row["key"], row["instruction_id_list"], row["prompt"], row["kwargs"])

    return instruction_following.score(
        questions,
        answers,
        lambda row, text: utils.test_instruction_following_strict(example(row), text).follow_instruction_list,
        lambda row, text: utils.test_instruction_following_loose(example(row), text).follow_instruction_list,
    )
