"""Shared scoring of benchmarks with verifiable instructions (IFEval, IFBench).

Strict accuracy checks the answer as it is. Loose accuracy accepts it if any of eight versions passes (without its first
line, its last line, its asterisks). An instruction is followed or not; a prompt is solved when all of its instructions
are followed. Published are accuracies by prompt and by instruction, in percent.
"""

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from ladder.data.jsonl import Row
from ladder.eval.benchmark import JOIN, Answers, Question, key_text
from ladder.eval.measure import Measure
from ladder.pipeline.stage import UserError

Check = Callable[[Row, str], list[bool]]
"""Checker: takes a benchmark's row and an answer; returns whether each instruction is followed."""


def _accuracies(kind: str) -> dict[str, Measure]:
    """Build accuracies by prompt and by instruction; a row has under `kind` a bool for each of its instructions."""
    return {
        f"prompt_{kind}": Measure(
            f"prompts with all instructions followed, {kind}",
            "%", "higher", lambda row: all(row[kind]), lambda row: 1.0, True,
        ),
        f"instruction_{kind}": Measure(
            f"instructions followed, {kind}",
            "%", "higher", lambda row: sum(row[kind]), lambda row: len(row[kind]), True,
        ),
    }  # fmt: skip


MEASURES = {**_accuracies("strict"), **_accuracies("loose")}
MEANS = {f"mean_{kind}": (f"prompt_{kind}", f"instruction_{kind}") for kind in ("strict", "loose")}


def questions(rows: list[Row]) -> list[Question]:
    """Build questions from rows of key, prompt, instruction_id_list ("family:instruction") and kwargs.

    A question's groups are the instruction families.
    """
    return [
        Question(
            key_text(row["key"]),
            (row["prompt"],),
            JOIN.join(name.partition(":")[0] for name in row["instruction_id_list"]),
            row,
        )
        for row in rows
    ]


def score(questions: list[Question], answers: list[Answers], strict: Check, loose: Check) -> list[Row]:
    """Score answers; return rows with "strict" and "loose", a bool for each instruction.

    A score depends only on the prompt and its answer, not on which others are scored or on their order.
    Errors: UserError for more than one answer to a prompt.
    """
    by_key = {question.key: question for question in questions}
    rows = []
    for answer in answers:
        if len(answer.samples) > 1:
            raise UserError(f"key {answer.key!r}: expected one answer per prompt, got {len(answer.samples)}")
        question, found = by_key[answer.key], {}
        for kind, check in (("strict", strict), ("loose", loose)):
            with _seeded(question.key):
                found[kind] = check(question.row, answer.samples[0][0])
        names = [name.partition(":")[2].replace("_", " ") for name in question.row["instruction_id_list"]]
        verdicts = [
            [name, True if strictly else "loosely" if loosely else False]
            for name, strictly, loosely in zip(names, found["strict"], found["loose"], strict=True)
        ]
        rows.append({"key": question.key, "group": question.group, **found, "verdicts": verdicts})
    return rows


def nltk_data(folder: Path | None) -> None:
    """Add the folder with NLTK's sentence model to NLTK's path. Call it before importing a checker, which downloads it.

    Errors: UserError when the folder has no sentence model.
    """
    if folder is None or not (folder / "tokenizers" / "punkt_tab" / "english").is_dir():
        raise UserError(
            f"{folder or 'data/punkt'}: expected NLTK data with the folder tokenizers/punkt_tab/english. "
            "`dvc repro punkt` makes it."
        )
    import nltk

    copied = _copy(folder).name
    nltk.data.path[:] = [copied, *(path for path in nltk.data.path if path != copied)]


@cache
def _copy(folder: Path) -> tempfile.TemporaryDirectory[str]:
    """Copy the folder until the process ends: NLTK refuses files with several links, as in a DVC checkout."""
    scratch = tempfile.TemporaryDirectory(prefix="punkt-")
    shutil.copytree(folder, scratch.name, dirs_exist_ok=True)
    return scratch


@contextmanager
def _seeded(seed: str) -> Iterator[None]:
    """Seed both random generators that the checkers use, and restore Python's afterwards.

    langdetect samples n-grams. Prompts 1122 and 1129 of IFEval count a "letter" that is not one (# and !), for which
    the checker draws a random letter. It is seeded by the prompt's key, so it is the same for every model.
    """
    import langdetect

    langdetect.DetectorFactory.seed = 0
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
