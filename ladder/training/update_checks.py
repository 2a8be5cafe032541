"""Checks after training: the model changed, and the training did not ruin it (gradients, weights, losses)."""

import math
import sys
from statistics import fmean
from typing import Any

import torch
from peft import PeftModel

from ladder.pipeline.stage import UserError

Marks = dict[str, int]
GROWN, ADAPTER_GROWN = 10.0, 30.0
"""Maximum growth factors of the norm of trained weights: for full weights, and for adapters.

Adapters may grow more, because their second matrices start at zero. A normal recipe gives factors below 2. A learning
rate of 10 gives at least 75 and 190.
"""
WORSE, MARGIN = 1.5, 1.0
"""A final loss may be 1.5 times the initial loss, and in any case 1 nat above the loss of a uniform guess."""


def marks(model: Any, saved: torch.dtype | None) -> Marks:
    """Checksum of each trainable weight, in the dtype in which it is saved; None: its own, as an adapter's."""
    whole = saved is not None and not isinstance(model, PeftModel)
    return {
        name: _bits(weight.detach().to(saved) if whole else weight.detach())
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


def _bits(weight: torch.Tensor) -> int:
    same_size = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return int(weight.contiguous().view(same_size[weight.element_size()]).sum(dtype=torch.int64).item())


def check_learned(points: list[dict[str, float]], before: Marks | None, after: Marks | None) -> dict[str, float]:
    """Refuse a training that changed nothing. Returns `steps_without_gradient` if it is at least half of all steps.

    `points`: the trainer's logs per step. `before`, `after`: checksums of the weights, None if they cannot be read
    (weights sharded across GPUs). Errors: UserError when the gradient was zero at every step, or no weight changed.
    """
    norms = [point["grad_norm"] for point in points if "grad_norm" in point]
    idle = norms.count(0.0)
    if norms and idle == len(norms):
        raise UserError(
            f"nothing was learned, so no rung is saved: the gradient was zero at all {idle} steps. {_advice(points)}"
        )
    if before is not None and after is not None and all(after.get(name, mark) == mark for name, mark in before.items()):
        raise UserError(
            f"nothing was learned, so no rung is saved: no weight differs from its parent's after {len(points)} steps. "
            "Raise trainer.learning_rate or the number of steps."
        )
    if 2 * idle < len(norms) or not idle:
        return {}
    print(f"the gradient was zero at {idle} of {len(norms)} steps. {_advice(points)}", file=sys.stderr, flush=True)
    return {"steps_without_gradient": idle}


def norm(model: Any) -> float:
    """Norm of all trainable weights."""
    return math.sqrt(
        sum(
            float(weight.detach().norm(dtype=torch.float32)) ** 2
            for weight in model.parameters()
            if weight.requires_grad
        )
    )


def check_ruined(
    points: list[dict[str, float]],
    before: float | None,
    after: float | None,
    *,
    adapter: bool,
    vocabulary: int,
    loss: float | None = None,
) -> None:
    """Refuse a model that its training ruined, for example by a learning rate of 1e6.

    `before`, `after`: norms of the trained weights, None if they cannot be read. `loss`: validation loss of the saved
    weights if these are not the last ones. Without `points`, or in trainings with rewards, only the weights decide,
    because a policy-gradient loss has no scale. Errors: UserError when the norm or the final loss is above its limit.
    """
    advice = "The training ruined the model, so no rung is saved. Lower trainer.learning_rate."
    most = ADAPTER_GROWN if adapter else GROWN
    if before and after is not None and not after <= most * before:
        raise UserError(
            f"the norm of the trained weights grew from {before:.4g} to {after:.4g}, {after / before:.3g} times; "
            f"expected at most {most:g} times. {advice}"
        )
    losses = [point["loss"] for point in points if "loss" in point]
    if not losses or any("reward" in point for point in points):
        return
    limit = max(WORSE * losses[0], math.log(vocabulary) + MARGIN)
    validated = [point["validation_loss"] for point in points if "validation_loss" in point]
    ends = {"the loss of the last tenth of the steps": fmean(losses[-max(1, len(losses) // 10) :])}
    ends |= {"the validation loss": validated[-1]} if validated else {}
    for name, end in {"the validation loss": loss}.items() if loss is not None else ends.items():
        if not end <= limit:
            raise UserError(
                f"{name} rose from {losses[0]:.4g} to {end:.4g}; expected at most {limit:.4g} ({WORSE} times the first "
                f"loss; a uniform guess among {vocabulary} tokens has {math.log(vocabulary):.4g}). {advice}"
            )


def _advice(points: list[dict[str, float]]) -> str:
    if any("reward" in point for point in points):
        return (
            "Every answer to a prompt got the same reward. Choose prompts that are solved sometimes, rewards that "
            "differ between answers, or a higher temperature and more answers per prompt."
        )
    return "Check whether the rows have answers, and whether the loss depends on the trained weights."
