"""Guard model filter: keep rows that a guard labels as safe, or with any other chosen label.

    guarded: {keep: [safe], drop: [unsafe], template: guard, judge: {endpoint: {base_url: …, model: …}}}

Any model can act as a guard through a template. A dedicated guard model, for example Llama Guard (Inan et al. 2023,
arXiv:2312.06674), has its own template in its chat template: set `template: null`, and the guard gets the conversation
itself. `judge` has the same keys as the judge section of benchmarks (ladder/judges/judge.py). Without `endpoint`, the
filter's `model` is the judge.
"""

import functools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ladder.chat.encode import Messages, conversation
from ladder.data.jsonl import Row
from ladder.data.prompt_templates import fenced, fill, read_template
from ladder.data.turns import answer, said, with_chosen, without_reasoning
from ladder.filters.verdict_cache import Undecided
from ladder.judges.judge import Judge, Judging, load_judge
from ladder.pipeline.stage import UserError, fit

LONGEST_LABEL = 60
"""Maximum characters of a guard's reply in a rejection reason."""


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
    """Keep rows whose label from a guard model is one of `keep`.

    A row with a label of `drop` is rejected, with the guard's reply as the reason. A row without a label from either
    list is rejected as `no label`. Labels are compared without case.

    The guard prompt is prompts/quality/`template`.txt with the placeholders {question} and {answer}. Without a
    template, the guard gets the row's conversation; for a preference pair, the one with the chosen answer.

    Errors: UserError when keep or drop is empty or they share a label. For `judge`: as in ladder.judges.judge.
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
    """Parse a guard's reply into (label, reply on one line); None if its first line is not a label.

    The first line may name the field before the label, as in Qwen3Guard's `Safety: Unsafe`. The reply is cut at
    LONGEST_LABEL characters.
    """
    first, *_ = text.strip().splitlines() or [""]
    named = re.sub(r"^[\w ]+:", "", first).strip(" \t.*'\"`").lower()
    found = next((one for one in labels if one.lower() == named), None)
    return None if found is None else (found, " ".join(text.split())[:LONGEST_LABEL])


def _request(template: str, row: Row) -> Messages:
    text = fill(template, {"question": said(row, "prompt"), "answer": fenced(answer(row))})
    return [{"role": "user", "content": text}]


@functools.lru_cache(maxsize=1)
def _guard(section: str, model: Path, base: Path) -> Judge:
    return load_judge(fit(Judging, json.loads(section), "guarded.judge"), model, base)
