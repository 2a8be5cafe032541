"""Whether a training changed its model: steps without a gradient, and weights that are as they were."""

import sys
from typing import Any

import torch
from peft import PeftModel

from ladder.run import Refused

Marks = dict[str, int]


def marks(model: Any, *, saved_in_bfloat16: bool) -> Marks:
    """A number for each weight that takes gradients, which differs when the weight differs as it will be saved."""
    whole = saved_in_bfloat16 and not isinstance(model, PeftModel)
    return {
        name: _bits(weight.detach().to(torch.bfloat16) if whole else weight.detach())
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


def _bits(weight: torch.Tensor) -> int:
    same_size = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return int(weight.contiguous().view(same_size[weight.element_size()]).sum(dtype=torch.int64).item())


def check_learned(points: list[dict[str, float]], before: Marks | None, after: Marks | None) -> dict[str, float]:
    """What the metrics say of steps without a gradient, empty where they are fewer than half of all.

    `points`: what the trainer logged, step by step. `before` and `after`: the weights' marks, None where they cannot be
    read (weights cut across GPUs). Errors: Refused when every step's gradient was zero or no weight changed.
    """
    norms = [point["grad_norm"] for point in points if "grad_norm" in point]
    idle = norms.count(0.0)
    if norms and idle == len(norms):
        raise Refused(
            f"nothing was learned: the gradient was zero at all {idle} steps, so no rung is saved; {_advice(points)}"
        )
    if before is not None and after is not None and all(after.get(name, mark) == mark for name, mark in before.items()):
        raise Refused(
            f"nothing was learned: no weight differs from its parent's after {len(points)} steps, so no rung is saved; "
            "raise trainer.learning_rate or the number of steps"
        )
    if 2 * idle < len(norms) or not idle:
        return {}
    print(f"the gradient was zero at {idle} of {len(norms)} steps: {_advice(points)}", file=sys.stderr, flush=True)
    return {"steps_without_gradient": idle}


def _advice(points: list[dict[str, float]]) -> str:
    if any("reward" in point for point in points):
        return (
            "every answer to a prompt got the same reward; choose prompts that are solved sometimes, rewards that "
            "differ between answers, or a higher temperature and more answers to a prompt"
        )
    return "look at whether the rows have answers, and whether the loss depends on the trained weights"
