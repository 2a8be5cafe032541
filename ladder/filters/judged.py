"""Quality filter: keep rows whose answer an LLM judge grades high enough.

    rewarded: {min: 0.0}
    judged: {min: 7, template: rate, judge: {max_new_tokens: 512}}
    judged: {min: 7, template: rate_json, form: json, judge: {endpoint: {base_url: …, model: …}}}

`judge` has the same keys as the judge section of benchmarks (ladder/judges/judge.py). Without `endpoint`, the filter's
`model` is the judge.
"""

import functools
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ladder.data.jsonl import Row
from ladder.data.prompt_templates import fenced, fill, read_template
from ladder.data.turns import answer, said
from ladder.filters.verdict_cache import Undecided
from ladder.judges.judge import Judge, Judging, load_judge
from ladder.pipeline.stage import Config, fit

LONGEST_REASON = 120
"""Maximum characters of a rejection reason from a judge."""


class Opinion(Config):
    """What a judge replies in JSON."""

    reason: str
    grade: int = Field(ge=1, le=10)


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
    asked = [fill(text, {"question": said(row, "prompt"), "answer": fenced(answer(row))}) for row in batch]
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
def _judge(section: str, model: Path, base: Path) -> Judge:
    return load_judge(fit(Judging, json.loads(section), "judged.judge"), model, base)
