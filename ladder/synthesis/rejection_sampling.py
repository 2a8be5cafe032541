"""Rejection sampling: answers of a rung with check verdicts, the raw material of SFT rows and preference pairs."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import Field

from ladder.chat.encode import check_messages, up_to_user
from ladder.chat.rendering import Messages
from ladder.data.jsonl import Row, column, of_split, read_rows
from ladder.inference.endpoint import served_by
from ladder.inference.engines import EngineSettings, open_engine
from ladder.inference.types import Answer, Sampling
from ladder.verifiers.constraints import meets
from ladder.verifiers.reasoning import find_answer, unfinished
from ladder.verifiers.repair import repair


class Draws(EngineSettings):
    split: str | None
    """Value of the prompts' column `split` to select; null for all prompts."""
    samples: int = Field(ge=1)
    """Answers per prompt."""
    temperature: float = Field(ge=0)
    """Sampling temperature. At 0 decoding is greedy, and all samples of a prompt are equal."""
    top_p: float = Field(gt=0, le=1)
    """Nucleus sampling: probability mass to keep; 1 keeps the whole distribution."""
    max_new_tokens: int = Field(ge=1)
    """Maximum answer length in tokens; a longer answer is truncated and counts as unfinished."""
    seed: int
    """Seed of sampling."""

    @property
    def sampling(self) -> Sampling:
        return Sampling(self.temperature, self.top_p, self.max_new_tokens, self.seed)


class Samples(Draws):
    prompts: str
    """File of prompts under data/: `prompts`, `problems/practice`, `source/ultrachat`."""
    model: str = "base"
    """Rung that answers: `base`, `sft/chat`. Leave it out with an endpoint."""
    edits: bool
    """Also add failed answers edited to pass their checks. They are marked `edited` and checked again."""


def asked(params: Draws, prompts: Path) -> list[Row]:
    """Prompts of the split. A row of `messages` gives all turns up to the last user message; `checks` default to none.

    Later turns are dropped, because they are another model's answer. Errors: UserError naming the file, and the row
    that is not a prompt.
    """
    chosen = of_split(read_rows(prompts), params.split, prompts)
    column(chosen, "id", str, prompts)
    found = [_prompt(row, f"{prompts}: prompt {number}") for number, row in enumerate(chosen, start=1)]
    column(found, "checks", list, prompts)
    return found


def _prompt(row: Row, where: str) -> Row:
    messages = row.get("messages")
    prompt = row.get("prompt") if messages is None else up_to_user(check_messages(messages, where))
    checks = [] if row.get("checks") is None else row["checks"]
    return {**row, "prompt": check_messages(prompt, where), "checks": checks}


def repeated(prompts: list[Row], samples: int) -> list[Messages]:
    """Conversations [prompts x samples]: all samples of the first prompt, then of the second."""
    return [row["prompt"] for row in prompts for _ in range(samples)]


def sample(params: Samples, prompts: Path, model: Path, base: Path, *, progress: str) -> Iterator[Row]:
    """Answer every prompt of the split and check the answers. Yields rows of prompt and completion with `passed`.

    A rung's answers are held in memory by portions (ladder.inference.answer_cache), an endpoint's answers all at once.
    """
    chosen = asked(params, prompts)
    answers = open_engine(params, model, base).generate(
        repeated(chosen, params.samples),
        params.sampling,
        progress=progress,
        where=lambda index: f"{prompts}: prompt {index // params.samples + 1}",
    )
    return judged(chosen, answers, params.samples, edits=params.edits, **served_by(params.endpoint))


def judged(
    prompts: list[Row], answers: Iterable[Answer], samples: int, *, edits: bool, **columns: str
) -> Iterator[Row]:
    """Yield one row per sample with the verdict of each check, followed by the edited version of a failed one.

    `answers` has the order of the conversations of `repeated`. `columns` are added to every row.
    """
    for number, said in enumerate(answers):
        prompt = prompts[number // samples]
        row = _judged(prompt, number % samples, said.text, said, edited=False) | columns
        yield row
        if edits and not succeeded(row):
            start, end, ended = find_answer(said.text)
            text = repair(said.text[start:end], prompt["prompt"][-1]["content"], prompt["checks"]) if ended else None
            if text is not None:
                whole = said.text[:start] + text + said.text[end:]
                yield _judged(prompt, number % samples, whole, said, edited=True) | columns


def _judged(prompt: Row, sample: int, text: str, said: Answer, *, edited: bool) -> Row:
    reply: Row = {"role": "assistant", "content": text}
    if said.reasoning:
        reply["reasoning_content"] = said.reasoning
    return {
        "id": prompt["id"],
        "sample": sample,
        "edited": edited,
        "finished": (said.finished and not unfinished(text)) or edited,  # an edit drops an unfinished end
        "tokens": said.tokens,
        "passed": meets(text, prompt["checks"]),
        "checks": prompt["checks"],
        "prompt": prompt["prompt"],
        "completion": [reply],
        **({"source": prompt["source"]} if "source" in prompt else {}),
    }


def succeeded(row: Row) -> bool:
    """Whether the answer ended and passed every check."""
    return row["finished"] and all(row["passed"])


class Tally:
    """Running counts over rows."""

    def __init__(self) -> None:
        self.samples = self.edited = self.checked = self.passed = self.finished = self.unanswered = 0
        self.unfinished_reasoning = 0

    def add(self, row: Row) -> None:
        if row["edited"]:
            self.edited += 1
            return
        self.samples += 1
        self.checked += bool(row["checks"])
        self.passed += bool(row["checks"]) and all(row["passed"])
        self.finished += row["finished"]
        self.unfinished_reasoning += unfinished(row["completion"][0]["content"])
        self.unanswered += not (row["tokens"] or row["finished"] or row["completion"][0]["content"])

    def rates(self) -> dict[str, float]:
        """Percentages over unedited samples: `pass_rate` and `finish_rate`.

        `pass_rate` is the share of samples with checks that pass all of them; it is absent if no prompt has checks.
        `finish_rate` is the share that ended by itself. `unfinished_reasoning`, if not 0, counts samples whose
        reasoning never ended.
        """
        passed = {"pass_rate": round(100 * self.passed / self.checked, 2)} if self.checked else {}
        reasoning = {"unfinished_reasoning": self.unfinished_reasoning} if self.unfinished_reasoning else {}
        return {**passed, "finish_rate": round(100 * self.finished / self.samples, 2), **reasoning}


def rates(rows: list[Row]) -> dict[str, float]:
    """Rates of a list of rows, as in `Tally.rates`."""
    tally = Tally()
    for row in rows:
        tally.add(row)
    return tally.rates()
