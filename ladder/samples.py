"""Samples of a rung on our prompts, each with the verdict of its checks: raw material of SFT rows and of pairs."""

from pathlib import Path

from ladder.checks import meets
from ladder.edits import repair
from ladder.generation import Answer, Endpoint, answer, ask
from ladder.models import load
from ladder.rows import Row, read_rows
from ladder.run import Refused, Section
from ladder.sampling import Sampling


class Samples(Section):
    model: str
    """The rung that answers: `base`, `sft/chat`."""
    endpoint: Endpoint | None
    """An OpenAI-compatible server that answers in its place."""
    split: str
    """Which prompts: `sft`, `preferences` or `heldout`."""
    samples: int
    """Answers to each prompt."""
    temperature: float
    """0 takes the likeliest token; every sample of a prompt is then the same."""
    top_p: float
    """The nucleus: 1 keeps the whole distribution."""
    max_new_tokens: int
    """An answer that has not ended by then is cut, and counts as unfinished."""
    seed: int
    edits: bool
    """Also keep what a failed answer becomes when edited to meet its checks: marked `edited`, and checked again."""


def sample(params: Samples, prompts: Path, model: Path, base: Path, *, progress: str) -> list[Row]:
    """Answer every prompt of the split and judge the answers: rows of prompt and completion, with `passed`."""
    chosen = [row for row in read_rows(prompts) if row["split"] == params.split]
    if not chosen:
        raise Refused(f"{prompts}: no prompt of split {params.split!r}")
    conversations = [row["prompt"] for row in chosen for _ in range(params.samples)]
    sampling = Sampling(params.temperature, params.top_p, params.max_new_tokens, params.seed)
    if params.endpoint:
        answers = ask(params.endpoint, conversations, sampling, progress=progress)
    else:
        answers = answer(load(model, base), conversations, sampling, progress=progress)
    return judged(chosen, answers, params.samples, edits=params.edits)


def judged(prompts: list[Row], answers: list[Answer], samples: int, *, edits: bool) -> list[Row]:
    """One row a sample, with the verdict of each check; after a failed one what it becomes when edited.

    `answers` [prompts x samples]: all samples of the first prompt, then of the second.
    """
    rows = []
    for number, said in enumerate(answers):
        prompt = prompts[number // samples]
        row = _judged(prompt, number % samples, said.text, said, edited=False)
        rows.append(row)
        if edits and not succeeded(row):
            text = repair(said.text, prompt["prompt"][-1]["content"], prompt["checks"])
            if text is not None:
                rows.append(_judged(prompt, number % samples, text, said, edited=True))
    return rows


def _judged(prompt: Row, sample: int, text: str, said: Answer, *, edited: bool) -> Row:
    return {
        "id": prompt["id"],
        "sample": sample,
        "edited": edited,
        "finished": said.finished or edited,  # an edit drops an unfinished end
        "tokens": said.tokens,
        "passed": meets(text, prompt["checks"]),
        "checks": prompt["checks"],
        "prompt": prompt["prompt"],
        "completion": [{"role": "assistant", "content": text}],
    }


def succeeded(row: Row) -> bool:
    """The answer ended and meets every check."""
    return row["finished"] and all(row["passed"])


def rates(rows: list[Row]) -> dict[str, float]:
    """Percent of the samples, edits aside, that meet all checks, and that ended by themselves."""
    sampled = [row for row in rows if not row["edited"]]
    return {
        "pass_rate": round(100 * sum(all(row["passed"]) for row in sampled) / len(sampled), 2),
        "finish_rate": round(100 * sum(row["finished"] for row in sampled) / len(sampled), 2),
    }
