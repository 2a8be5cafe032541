"""Quality filters: keep rows whose answer a reward model or an LLM judge scores high enough.

    rewarded: {min: 0.0}
    judged: {min: 7, template: rate, judge: {max_new_tokens: 512}}
    judged: {min: 7, template: rate_json, form: json, judge: {endpoint: {base_url: …, model: …}}}

Reward scales differ between reward models: inspect the rejected rows before choosing a threshold. `judge` has the same
keys as the judge section of benchmarks (ladder/judges/judge.py). Without `endpoint`, the filter's `model` is the judge.
"""

import functools
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ladder.chat.encode import conversation, encode
from ladder.data.jsonl import Row
from ladder.data.prompt_files import read_template
from ladder.data.prompt_templates import fill
from ladder.data.quoting import fenced
from ladder.data.turns import answered, said, with_chosen, without_reasoning
from ladder.filters.verdict_cache import Undecided
from ladder.judges.judge import Judge, Judging, load_judge
from ladder.models.checkpoint import Model, load_reward
from ladder.models.reward_scores import rewards
from ladder.pipeline.stage import Config, fit

LONGEST_REASON = 120
"""Maximum characters of a rejection reason from a judge."""


class Opinion(Config):
    """What a judge replies in JSON."""

    reason: str
    grade: int = Field(ge=1, le=10)


def rewarded(batch: list[Row], *, min: float, model: Path, base: Path) -> list[str | None]:
    """Keep rows whose conversation gets a reward of at least `min` from the reward model in `model`.

    For a preference pair, the conversation with the chosen answer is scored.

    Errors: UserError for a row without an answer, and when `model` is not a reward model.
    """
    scorer = _scorer(model, base)
    ids = []
    for row in batch:
        where = f"row {row.get('id')}"
        said = without_reasoning(conversation(with_chosen(row), where))
        ids.append(encode(scorer.tokenizer, said, where, last_only=True)[0])
    return [None if value >= min else f"reward {value:.2f}" for value in rewards(scorer, ids)]


def judged(
    batch: list[Row],
    *,
    min: float,
    template: str,
    judge: dict[str, Any],
    model: Path,
    base: Path,
    prompts: Path,
    form: Literal["rating", "json"] = "rating",
) -> list[str | None]:
    """Keep rows whose answer a judge grades at least `min`, on a scale of 1 to 10.

    The judge prompt is prompts/quality/`template`.txt with the placeholders {question} and {answer}. A row without
    a readable grade is rejected.

    `form` is the reply format that the template requests: `Rating: [[5]]`, or the JSON object of Opinion. An endpoint
    gets Opinion's JSON schema, and the reason in the reply appears in the rejection reason.

    Errors: as in ladder.judges.judge.
    """
    text = read_template(prompts / f"{template}.txt", {"question", "answer"})
    asked = [fill(text, {"question": said(row, "prompt"), "answer": fenced(answered(row))}) for row in batch]
    requests = [[{"role": "user", "content": request}] for request in asked]
    judging = _judge(json.dumps(judge), model, base)
    if form == "json":
        opinions = judging.objects(requests, Opinion, progress="judged")
        return [_graded(one.grade, min, one.reason) if one else _graded(None, min) for one in opinions]
    return [_graded(grade, min) for grade in judging.rate(requests, progress="judged")]


def _graded(grade: float | None, limit: float, reason: str = "") -> str | None:
    if grade is None:
        return Undecided("no grade")
    explanation = f"grade {grade:.1f}: {reason}" if reason else f"grade {grade:.1f}"
    return None if grade >= limit else " ".join(explanation.split())[:LONGEST_REASON]


@functools.lru_cache(maxsize=1)
def _scorer(model: Path, base: Path) -> Model:
    return load_reward(model, base)


@functools.lru_cache(maxsize=1)
def _judge(section: str, model: Path, base: Path) -> Judge:
    return load_judge(fit(Judging, json.loads(section), "judged.judge"), model, base)
