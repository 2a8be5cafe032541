"""IFEval (Zhou et al. 2023, arXiv 2311.07911): answers checked by lm-eval's own instruction checkers.

Strict checks the answer as it stands; loose passes if any of eight versions of it does (without its first
line, its last line, its asterisks). An instruction is followed or not; a prompt is solved when all of its
instructions are. Both accuracies, by prompt and by instruction, are published as percentages.
"""

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from ladder.rows import Row
from ladder.run import Refused


def score(rows: list[Row], responses: list[Row], punkt: Path) -> list[Row]:
    """Check each response against its prompt's instructions, in the order of `responses`.

    rows: the benchmark's own (key, prompt, instruction_id_list, kwargs); responses: key, response, one for
    each prompt that was asked. punkt: a folder of NLTK data that holds tokenizers/punkt_tab.
    Returns {"key", "instruction_id_list", "strict": [bool, one an instruction], "loose": [the same]}.
    An answer's score depends on nothing but its prompt: not on which others are scored, nor on their order.
    Errors: Refused if punkt lacks the data; KeyError for a key the benchmark does not have.
    """
    checkers = _checkers(punkt)
    by_key = {row["key"]: row for row in rows}
    scores = []
    for answer in responses:
        row = by_key[answer["key"]]
        example = checkers.InputExample(**{name: row[name] for name in _FIELDS})
        with _seeded(str(row["key"])):
            strict = checkers.test_instruction_following_strict(example, answer["response"])
        with _seeded(str(row["key"])):
            loose = checkers.test_instruction_following_loose(example, answer["response"])
        scores.append(
            {
                "key": row["key"],
                "instruction_id_list": row["instruction_id_list"],
                "strict": strict.follow_instruction_list,
                "loose": loose.follow_instruction_list,
            }
        )
    return scores


def outcomes(scores: list[Row], kind: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What was passed, and out of how many: two arrays of shape (2, prompts) for `ladder.statistics`.

    Row 0 counts prompts (1 if all instructions are followed, out of 1), row 1 counts instructions. Each row's
    ratio of sums is a published accuracy; the mean of the two is what model makers quote as "IFEval".
    """
    passed = [[all(score[kind]) for score in scores], [sum(score[kind]) for score in scores]]
    asked = [[1 for _ in scores], [len(score[kind]) for score in scores]]
    return np.array(passed, dtype=float), np.array(asked, dtype=float)


_FIELDS = ("key", "instruction_id_list", "prompt", "kwargs")


def _checkers(punkt: Path) -> ModuleType:
    """lm-eval's module, imported only once its NLTK data is found: at import it would download what is missing."""
    if not (punkt / "tokenizers" / "punkt_tab" / "english").is_dir():
        raise Refused(f"{punkt}: expected NLTK data with the folder tokenizers/punkt_tab/english")
    import nltk

    nltk.data.path[:] = [str(punkt), *(path for path in nltk.data.path if path != str(punkt))]
    from lm_eval.tasks.ifeval import utils

    # It would print in full every answer whose language it cannot tell.
    logging.getLogger("lm_eval.tasks.ifeval.instructions").setLevel(logging.CRITICAL)
    return utils


@contextmanager
def _seeded(seed: str) -> Iterator[None]:
    """Fix both generators the checkers draw from, and give Python's back as it was.

    langdetect samples n-grams. And prompts 1122 and 1129 count a "letter" that is none (# and !), for which the
    checker draws a letter at random: seeded by the prompt's key, the same for every model.
    """
    import langdetect

    langdetect.DetectorFactory.seed = 0
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
