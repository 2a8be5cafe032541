"""Guard models: rows that one finds safe, or whatever its label is.

    guarded: {keep: [safe], drop: [unsafe], template: guard, judge: {endpoint: {base_url: …, model: …}}}

Any model can be asked by a template. One made for it, such as Llama Guard (Inan et al. 2023, arXiv:2312.06674), has its
own in its chat template: give it `template: null`, and it is sent the conversation itself. `judge` is the section that
benchmarks give to their judges (ladder/judges/judge.py); without an `endpoint` in it the filter's `model` judges.
"""

import functools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ladder.chat.encode import Messages, conversation
from ladder.data.jsonl import Row
from ladder.data.prompt_files import read_template
from ladder.data.prompt_templates import fill
from ladder.data.quoting import fenced
from ladder.data.turns import answered, said, with_chosen, without_reasoning
from ladder.filters.verdict_cache import Undecided
from ladder.judges.judge import Judge, Judging, load_judge
from ladder.pipeline.stage import UserError, fit

MOST_TOLD = 60
"""Characters of a guard's reply that a reason shows."""


def guarded(
    batch: list[Row],
    *,
    keep: list[str],
    drop: list[str],
    judge: dict[str, Any],
    model: Path,
    base: Path,
    prompts: Path,
    template: str | None = "guard",
) -> list[str | None]:
    """A guard's label of the row is one of `keep`. One of `drop` goes, with the guard's words; so does a row without
    a label of either.

    The guard is asked by data/prompts/quality/`template`.txt with its gaps {question} and {answer}; without a template
    it is sent the row's conversation, of a pair with the chosen answer. `judge` and errors: as ladder.judges.judge.
    """
    if not keep or not drop or {one.lower() for one in keep} & {one.lower() for one in drop}:
        raise UserError(f"guarded: expected labels in keep and others in drop, got {keep} and {drop}")
    if template is None:
        asked = [without_reasoning(conversation(with_chosen(row), f"row {row.get('id')}")) for row in batch]
    else:
        text = read_template(prompts / f"{template}.txt", {"question", "answer"})
        asked = [_request(text, row) for row in batch]
    labels = functools.partial(label, labels=[*keep, *drop])
    verdicts = _guard(json.dumps(judge), model, base).ask(asked, labels, progress="guarded")
    kept = {one.lower() for one in keep}
    return [
        Undecided("no label") if verdict is None else None if verdict[0].lower() in kept else verdict[1]
        for verdict in verdicts
    ]


def label(text: str, labels: Sequence[str]) -> tuple[str, str] | None:
    """(the label that a reply begins with, the reply in one line); None where its first line is no label.

    The line may name what it labels, as in Qwen3Guard's `Safety: Unsafe`.
    """
    first, *_ = text.strip().splitlines() or [""]
    named = re.sub(r"^[\w ]+:", "", first).strip(" \t.*'\"`").lower()
    found = next((one for one in labels if one.lower() == named), None)
    return None if found is None else (found, " ".join(text.split())[:MOST_TOLD])


def _request(template: str, row: Row) -> Messages:
    text = fill(template, {"question": said(row, "prompt"), "answer": fenced(answered(row))})
    return [{"role": "user", "content": text}]


@functools.lru_cache(maxsize=1)
def _guard(section: str, model: Path, base: Path) -> Judge:
    return load_judge(fit(Judging, json.loads(section), "guarded.judge"), model, base)
