"""IFBench (Pyatkin et al. 2025, arXiv:2507.02833; data ODC-BY): instructions that no training set is written for.

300 prompts of 58 kinds of instruction, checked by their makers' code as the package if-verifiable carries it. The paper
quotes prompt-level loose accuracy. Six prompts must begin with a verb, which the checker asks NLTK's part-of-speech
tagger; no package index has that model, so they are left out and 294 are asked. The list of English stop words that
12 prompts are checked with comes with the rows, as their column `stopwords`.
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
    """rows: as IFEval's, with `stopwords`: [{"text": one a line}]. Errors: UserError where a row needs and lacks it."""
    for row in rows:
        if "ratio:stop_words" in row["instruction_id_list"] and not row.get("stopwords"):
            raise UserError(f"key {row['key']!r}: expected a column `stopwords`; `join` of task.ifbench brings it")
    return instruction_following.questions([row for row in rows if not UNCHECKED & set(row["instruction_id_list"])])


def score(questions: list[Question], answers: list[Answers], tools: Tools) -> list[Row]:
    """Rows with "strict" and "loose", a bool for each instruction. Errors: UserError without `tools.punkt`'s data."""
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
    """Whether each instruction is followed by one of the answer's versions."""
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
        # The checker of quotations takes the last letter of an answer that has none.
        return False


def _whole(value: Any) -> Any:
    """5 for 5.0: the published table holds its whole numbers as floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


@cache
def _nltk_folder(stopwords: str) -> tempfile.TemporaryDirectory[str]:
    """NLTK data with the stop words, and with what the checkers would download at import; there until the process ends,
    as NLTK reads the list once."""
    import nltk

    scratch = tempfile.TemporaryDirectory(prefix="ifbench-")
    folder = Path(scratch.name)
    for name in ("tokenizers/punkt", "taggers/averaged_perceptron_tagger_eng", "corpora/stopwords"):
        (folder / name).mkdir(parents=True)
    (folder / "corpora/stopwords/english").write_text(stopwords, encoding="utf-8")
    nltk.data.path.insert(0, str(folder))
    return scratch
