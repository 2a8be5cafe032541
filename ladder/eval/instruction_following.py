"""Benchmarks of instructions that a program can check (IFEval, IFBench): what is published of them, and how it is read.

Strict checks the answer as it stands; loose passes if any of eight versions of it does (without its first line, its
last line, its asterisks). An instruction is followed or not; a prompt is solved when all of its instructions are.
Accuracies by prompt and by instruction are published, in percent.
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
from ladder.eval.measures import Measure
from ladder.pipeline.stage import UserError

Check = Callable[[Row, str], list[bool]]
"""A benchmark's row and an answer to it give whether each instruction is followed."""


def _accuracies(kind: str) -> dict[str, Measure]:
    """By prompt and by instruction; a row has under `kind` a bool for each of its instructions."""
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
    """rows: key, prompt, instruction_id_list ("family:instruction"), kwargs; a question's groups are the families."""
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
    """Rows with "strict" and "loose", a bool for each instruction.

    A score depends on nothing but the prompt and its answer: not on which others are scored, nor on their order.
    Errors: UserError for more than one answer to a prompt.
    """
    by_key = {question.key: question for question in questions}
    rows = []
    for answer in answers:
        if len(answer.samples) > 1:
            raise UserError(f"key {answer.key!r}: one answer to a prompt is scored here, not {len(answer.samples)}")
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
    """Let NLTK find its sentence model in the folder, before a checker is imported: at import it would download it.

    Errors: UserError where the folder has none.
    """
    if folder is None or not (folder / "tokenizers" / "punkt_tab" / "english").is_dir():
        raise UserError(
            f"{folder or 'data/punkt'}: expected NLTK data with the folder tokenizers/punkt_tab/english; "
            "`dvc repro punkt` makes it"
        )
    import nltk

    copied = _copy(folder).name
    nltk.data.path[:] = [copied, *(path for path in nltk.data.path if path != copied)]


@cache
def _copy(folder: Path) -> tempfile.TemporaryDirectory[str]:
    """A copy that is there until the process ends: NLTK reads no file with several links, as DVC checks one out."""
    scratch = tempfile.TemporaryDirectory(prefix="punkt-")
    shutil.copytree(folder, scratch.name, dirs_exist_ok=True)
    return scratch


@contextmanager
def _seeded(seed: str) -> Iterator[None]:
    """Fix both generators the checkers draw from, and give Python's back as it was.

    langdetect samples n-grams. And prompts 1122 and 1129 of IFEval count a "letter" that is none (# and !), for which
    the checker draws a letter at random: seeded by the prompt's key, the same for every model.
    """
    import langdetect

    langdetect.DetectorFactory.seed = 0
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
