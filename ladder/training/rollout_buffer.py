"""Rollout data for policy optimization: prompt sampler, and sampled answers with their rewards."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import nan
from statistics import fmean
from typing import Annotated

import torch
from pydantic import BeforeValidator, Field
from torch.utils.data import Sampler

from ladder.data.jsonl import Row
from ladder.inference.local import decoded
from ladder.inference.types import Completion, LocalName
from ladder.models.checkpoint import Model
from ladder.pipeline.stage import Config
from ladder.training.rewards import Spec, Values, named, total, weights


class Rollouts(Config):
    """How answers are sampled, and what they are worth."""

    rewards: Annotated[list[Spec], BeforeValidator(named)]
    """Functions of ladder/training/rewards.py with their weights. An answer's score is the weighted sum."""
    unfinished: float | None
    """Score of an answer truncated at max_new_tokens; null scores its text like any other."""
    temperature: Annotated[float, Field(gt=0)]
    """Temperature of the rollouts and of the trained probabilities. The full distribution is sampled (top_p is 1)."""
    max_new_tokens: Annotated[int, Field(gt=0)]
    """Maximum answer length in tokens; a longer answer is truncated."""
    engine: LocalName = Field(default="auto", exclude_if=lambda engine: engine == "auto")
    """Inference engine of the rollouts: `auto`, `decoder` or `padded` (ladder/inference/engines.py)."""
    samples_every: Annotated[int, Field(gt=0)]
    """Save a few answers for inspection from every n-th rollout."""


class RolloutSampler(Sampler[int]):
    """Sampler of prompts in an order shuffled by seed and epoch. Each rollout's prompts are repeated `repeats` times.

    A remainder smaller than one rollout (`size` prompts) is skipped in that epoch.
    """

    def __init__(self, count: int, size: int, repeats: int, seed: int) -> None:
        self.count, self.size, self.repeats, self.seed, self.epoch = count, size, repeats, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count // self.size * self.size * self.repeats

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(self.count, generator=generator).tolist()
        for start in range(0, self.count - self.size + 1, self.size):
            for _ in range(self.repeats):
                yield from order[start : start + self.size]


@dataclass(frozen=True)
class Experience:
    """Sampled answers with their rewards; each field has one entry per answer."""

    rows: list[Row]
    ids: list[tuple[list[int], list[int]]]
    """Token ids of the prompt and of the answer; the answer includes the stop token if it ended."""
    texts: list[str]
    finished: list[bool]
    parts: dict[str, Values]
    """Unweighted values of each reward, by name."""
    scores: list[float]

    def means(self) -> dict[str, float]:
        """Mean metrics for the curve. A reward without a verdict on any answer is NaN."""
        known = {name: [value for value in column if value is not None] for name, column in self.parts.items()}
        return {
            "reward": fmean(self.scores),
            **{f"rewards/{name}": fmean(column) if column else nan for name, column in known.items()},
            "completion_length": fmean(len(answer) for _, answer in self.ids),
            "finished": fmean(self.finished),
        }

    def excerpt(self, count: int, step: int, divergences: list[float]) -> list[Row]:
        """The first answers as rows for inspection, with rewards and the KL from the reference in nats."""
        return [
            {
                "step": step,
                "id": row.get("id"),
                "prompt": row["prompt"],
                "completion": [{"role": "assistant", "content": self.texts[number]}],
                "finished": self.finished[number],
                "reward": round(self.scores[number], 4),
                "rewards": {name: column[number] for name, column in self.parts.items()},
                "kl": round(divergences[number], 4),
            }
            for number, row in enumerate(self.rows[:count])
        ]


def score(
    rows: list[Row], answers: list[Completion], model: Model, settings: Rollouts, judge: Model | None
) -> Experience:
    """Score the answers of `model` to rows with `prompt_ids`. `judge` is the reward model, if a reward uses one."""
    prompts = [row["prompt_ids"] for row in rows]
    texts = decoded(model.tokenizer, prompts, [answer.tokens for answer in answers])
    finished = [answer.finished for answer in answers]
    parts = total(settings.rewards, rows, texts, finished, judge)
    sums = weighted_sums(list(parts.values()), weights(settings.rewards))
    return Experience(
        rows=rows,
        ids=[
            (row["prompt_ids"], answer.tokens + [model.stop] * answer.finished)
            for row, answer in zip(rows, answers, strict=True)
        ],
        texts=texts,
        finished=finished,
        parts=parts,
        scores=[
            weighted if done or settings.unfinished is None else settings.unfinished
            for weighted, done in zip(sums, finished, strict=True)
        ],
    )


def weighted_sums(columns: list[Values], factors: list[float]) -> list[float]:
    """Weighted sum of each answer's rewards. A reward without a verdict adds nothing."""
    weighted = [[factor * (value or 0.0) for value in column] for factor, column in zip(factors, columns, strict=True)]
    return [sum(values) for values in zip(*weighted, strict=True)]
