"""IFBench (Pyatkin et al. 2025, arXiv:2507.02833; data ODC-BY): verifiable instructions outside of training sets.

There are 300 prompts with 58 kinds of instruction, checked by the authors' code from the package if-verifiable. The
paper reports prompt-level loose accuracy. Six prompts must begin with a verb, and their checker uses NLTK's
part-of-speech tagger. No package index has that model, so they are left out and 294 are asked. The English stop words
that 12 prompts are checked with come with the rows, as their column `stopwords`.
"""

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from ladder.data.jsonl import Row
from ladder.eval import instruction_following
from ladder.eval.benchmark import Answers, Question, Tools
from ladder.eval.instruction_following import MEANS as MEANS
from ladder.eval.instruction_following import MEASURES as MEASURES
from ladder.pipeline.stage import UserError

HEADLINE = ("prompt_loose",)
PACKAGES = ("if-verifiable",)
UNCHECKED = {"words:start_verb"}


def questions(rows: list[Row]) -> list[Question]:
    """Build the questions from rows as in IFEval, with `stopwords`: [{"text": one word per line}].

    Errors: UserError when a row needs `stopwords` and lacks it.
    """
    for row in rows:
        if "ratio:stop_words" in row["instruction_id_list"] and not row.get("stopwords"):
            raise UserError(f"key {row['key']!r}: expected a column `stopwords`. `join` of task.ifbench adds it.")
    return instruction_following.questions([row for row in rows if not UNCHECKED & set(row["instruction_id_list"])])


def score(questions: list[Question], answers: list[Answers], tools: Tools) -> list[Row]:
    """Score answers: rows with "strict" and "loose", a bool per instruction.

    Errors: UserError without the data of `tools.punkt`.
    """
    words = next((question.row["stopwords"][0]["text"] for question in questions if question.row.get("stopwords")), "")
    instruction_following.nltk_data(tools.punkt)
    _nltk_folder(words)
    from if_verifiable.common import get_loose_transformations

    return instruction_following.score(
        questions,
        answers,
        lambda row, text: follows(row, [text]),
        lambda row, text: follows(row, get_loose_transformations(text)),
    )


def follows(row: Row, versions: list[str]) -> list[bool]:
    """Return whether each instruction is followed by any of the answer's versions."""
    from if_verifiable.ifbench.instructions_registry import INSTRUCTION_DICT

    found = []
    for name, keywords in zip(row["instruction_id_list"], row["kwargs"], strict=True):
        checker = INSTRUCTION_DICT[name](name)
        checker.build_description(**{key: _whole(value) for key, value in keywords.items() if value is not None})
        if "prompt" in (checker.get_instruction_args() or {}):
            checker.build_description(prompt=row["prompt"])
        found.append(any(_passes(checker, text) for text in versions if text.strip()))
    return found


def _passes(checker: Any, text: str) -> bool:
    try:
        return bool(checker.check_following(text))
    except IndexError:
        # The checker of quotations indexes the last letter, and fails on an answer without letters.
        return False


def _whole(value: Any) -> Any:
    """Convert 5.0 to 5: the published table holds its integers as floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


@cache
def _nltk_folder(stopwords: str) -> tempfile.TemporaryDirectory[str]:
    """Make a folder of NLTK data with the stop words, and with what the checkers would download at import.

    It exists until the process ends, because NLTK reads the list only once.
    """
    import nltk

    scratch = tempfile.TemporaryDirectory(prefix="ifbench-")
    folder = Path(scratch.name)
    for name in ("tokenizers/punkt", "taggers/averaged_perceptron_tagger_eng", "corpora/stopwords"):
        (folder / name).mkdir(parents=True)
    (folder / "corpora/stopwords/english").write_text(stopwords, encoding="utf-8")
    nltk.data.path.insert(0, str(folder))
    return scratch
