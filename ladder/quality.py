"""Quality: rows whose answer a reward model or a judge finds good enough.

    rewarded: {least: 0.0}
    judged: {least: 7, template: rate, judge: {max_new_tokens: 512}}

A reward model's scale is its own: look at the rejected rows before choosing a threshold. `judge` is the section that
benchmarks give to their judges (ladder/judging.py); without an `endpoint` in it the filter's `model` judges.
"""

import functools
import json
from pathlib import Path
from typing import Any

from ladder.chat import conversation, encode
from ladder.fences import fenced
from ladder.judging import Judge, Judging, load_judge
from ladder.models import Model, load_reward
from ladder.prompt_files import read_template
from ladder.rewarding import rewards
from ladder.rows import Row
from ladder.run import fit
from ladder.templates import fill
from ladder.turns import said, with_chosen


def rewarded(batch: list[Row], *, least: float, model: Path, base: Path) -> list[str | None]:
    """The reward model in `model` gives the conversation `least` or more; of a pair, the chosen answer's.

    Errors: Refused for a row without an answer, and for what is no reward model.
    """
    scorer = _scorer(model, base)
    ids = [encode(scorer.tokenizer, conversation(with_chosen(row), f"row {row.get('id')}"))[0] for row in batch]
    return [None if value >= least else f"reward {value:.2f}" for value in rewards(scorer, ids)]


def judged(
    batch: list[Row], *, least: float, template: str, judge: dict[str, Any], model: Path, base: Path, prompts: Path
) -> list[str | None]:
    """A judge grades the answer `least` or more, from 1 to 10, asked by data/prompts/quality/`template`.txt with its
    gaps {question} and {answer}. An answer without a readable grade goes. Errors: as ladder.judging.
    """
    text = read_template(prompts / f"{template}.txt", {"question", "answer"})
    asked = [fill(text, {"question": said(row, "prompt"), "answer": fenced(said(row, "completion"))}) for row in batch]
    grades = _judge(json.dumps(judge), model, base).rate(
        [[{"role": "user", "content": request}] for request in asked], progress="judged"
    )
    return [_graded(grade, least) for grade in grades]


def _graded(grade: float | None, least: float) -> str | None:
    if grade is None:
        return "no grade"
    return None if grade >= least else f"grade {grade:.1f}"


@functools.lru_cache(maxsize=1)
def _scorer(model: Path, base: Path) -> Model:
    return load_reward(model, base)


@functools.lru_cache(maxsize=1)
def _judge(section: str, model: Path, base: Path) -> Judge:
    return load_judge(fit(Judging, json.loads(section), "judged.judge"), model, base)
