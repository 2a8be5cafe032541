"""Validation split by prompt, and the settings to evaluate on it and to keep the best checkpoint.

    validation: {share: 0.05}     # or {prompts: 64}
    trainer: {eval_strategy: steps, eval_steps: 50, load_best_model_at_end: true}

All rows with the same prompt are on the same side. A prompt is the tokens before the first learned token. The prompts
with the smallest SHA-256 are held out, so every machine makes the same split for any order of the rows.
"""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import Field, model_validator

from ladder.pipeline.stage import Config, UserError

T = TypeVar("T")
SCHEDULES = ("reduce_lr_on_plateau", "greedy")
METRICS = {
    "sft": ("loss", "mean_token_accuracy", "entropy"),
    "pairs": ("loss", "rewards/accuracies", "rewards/margins", "rewards/chosen", "rewards/rejected", "logps/chosen",
              "logps/rejected"),
    "kto": ("loss", "rewards/margins", "rewards/chosen", "rewards/rejected"),
    "reward": ("loss", "accuracy", "margin"),
    "tokens": ("loss",),
}  # fmt: skip
"""Allowed values of metric_for_best_model by kind of stage."""


class Validation(Config):
    """How many prompts are held out: one of the two."""

    share: Annotated[float, Field(gt=0, lt=1)] | None = Field(None, exclude_if=lambda value: value is None)
    """Share of the prompts to hold out, at least one prompt."""
    prompts: Annotated[int, Field(ge=1)] | None = Field(None, exclude_if=lambda value: value is None)
    """Number of prompts to hold out."""

    @model_validator(mode="after")
    def one_of_both(self) -> "Validation":
        if (self.share is None) == (self.prompts is None):
            raise ValueError("expected exactly one of share (0.05) and prompts (64)")
        return self


class Validated(Config):
    """A training stage's section that can hold rows out."""

    validation: Validation | None = Field(None, exclude_if=lambda value: value is None)
    """Rows held out to measure the loss: `{share: 0.05}` of the prompts, or `{prompts: 64}`. Default: none."""

    @model_validator(mode="after")
    def evaluated(self) -> "Validated":
        check_evaluation(getattr(self, "trainer", {}), self.validation, self.kind())
        return self

    @classmethod
    def kind(cls) -> str:
        """Key of METRICS: the stage's module, or the group of stages that shares its metrics."""
        stage = cls.__module__.rpartition(".")[2]
        return {"dpo": "pairs", "simpo": "pairs", "orpo": "pairs"}.get(stage, stage if stage in METRICS else "tokens")


def check_evaluation(trainer: dict[str, Any], validation: Validation | None, kind: str) -> None:
    """Refuse evaluation keys that would have no effect. Errors: ValueError, for pydantic."""
    evaluates = trainer.get("eval_strategy", "no") != "no"
    schedule = trainer.get("lr_scheduler_type") in SCHEDULES
    needed = [
        *(["eval_strategy"] if evaluates else []),
        *(["load_best_model_at_end"] if trainer.get("load_best_model_at_end") else []),
        *(
            name
            for name in ("eval_steps", "metric_for_best_model", "greater_is_better")
            if trainer.get(name) is not None
        ),
        *(["per_device_eval_batch_size"] if "per_device_eval_batch_size" in trainer else []),
        *(["lr_scheduler_type"] if schedule else []),
    ]
    if needed and validation is None:
        raise ValueError(f"trainer.{needed[0]}: no rows to evaluate on. Set validation: {{share: 0.05}}.")
    if schedule and not evaluates:
        raise ValueError(
            f"trainer.lr_scheduler_type: {trainer['lr_scheduler_type']} needs eval_strategy: steps or epoch"
        )
    if trainer.get("load_best_model_at_end") and not evaluates:
        raise ValueError(
            "trainer.load_best_model_at_end: no checkpoints are compared. Set eval_strategy: steps or epoch."
        )
    if trainer.get("metric_for_best_model") is not None:
        if not trainer.get("load_best_model_at_end") and not schedule:
            raise ValueError("trainer.metric_for_best_model: no effect without load_best_model_at_end: true")
        if str(trainer["metric_for_best_model"]).removeprefix("eval_") not in METRICS[kind]:
            raise ValueError(
                f"trainer.metric_for_best_model: expected one of {', '.join(METRICS[kind])}, "
                f"got {trainer['metric_for_best_model']!r}"
            )
    if trainer.get("greater_is_better") is not None and not trainer.get("load_best_model_at_end") and not schedule:
        raise ValueError("trainer.greater_is_better: no effect without load_best_model_at_end: true")


@dataclass(frozen=True)
class Split:
    """Held-out rows of a training, and their number of prompts."""

    held_out: list[Any]
    prompts: int

    @property
    def counts(self) -> dict[str, float]:
        """Counts for the metrics; empty without validation."""
        return {"validation_rows": len(self.held_out), "validation_prompts": self.prompts} if self.held_out else {}


def split(rows: list[T], prompt: Callable[[T], list[int]], validation: Validation | None) -> tuple[list[T], Split]:
    """Split rows by the tokens of their prompts into (rows to train on, held-out rows).

    Errors: UserError when no prompt would be left to train on.
    """
    if validation is None:
        return rows, Split([], 0)
    digests = [hashlib.sha256(json.dumps(prompt(row)).encode()).hexdigest() for row in rows]
    prompts = sorted(set(digests))
    count = validation.prompts or max(1, math.floor(validation.share * len(prompts) + 0.5))  # type: ignore[operator]
    if count >= len(prompts):
        raise UserError(
            f"validation: {count} of {len(prompts)} prompts would be held out, and none trained on. "
            "Lower validation, or add rows."
        )
    chosen = set(prompts[:count])
    learned = [row for row, digest in zip(rows, digests, strict=True) if digest not in chosen]
    held_out = [row for row, digest in zip(rows, digests, strict=True) if digest in chosen]
    return learned, Split(held_out, count)


def before_answer(row: dict[str, Any]) -> list[int]:
    """Tokens of a row before its first learned token; all tokens if none is learned."""
    ids, labels = list(map(int, row["input_ids"])), list(map(int, row["labels"]))
    if "prompt_length" in row:
        return ids[: int(row["prompt_length"])]
    return ids[: next((place for place, label in enumerate(labels) if label != -100), len(ids))]


def pair_prompt(pair: dict[str, Any]) -> list[int]:
    """Tokens of a pair's prompt."""
    return list(pair["prompt_ids"])
