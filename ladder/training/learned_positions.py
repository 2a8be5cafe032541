"""Logits of the positions with a loss alone, on every device.

TRL's trainers compute log-probabilities by a head that never holds all logits (`trl.trainer.utils.add_fused_lm_head`).
On a GPU it selects the positions with a label first. Elsewhere it computes all positions and discards most of them,
because some accelerators compile again for every shape. A CPU does not: with chat rows, where a third of the tokens has
a loss, this takes more than half of a training step.
"""

import torch
from trl.trainer import utils

from ladder.pipeline.stage import UserError

DECIDES = "_use_triton"
"""TRL's function whose answer decides the selection. `trl.kernels` has its own copy, which chooses the kernels."""


def select_on_cpu() -> None:
    """Let TRL's head select positions on a CPU as it does on a GPU. Call it before training.

    Errors: UserError for a version of TRL that decides in another way.
    """
    if not hasattr(utils, DECIDES):
        raise UserError(f"trl: expected trl.trainer.utils.{DECIDES}, as in the version of pyproject.toml. Install it.")
    setattr(utils, DECIDES, _selects)


def _selects(device: torch.device) -> bool:
    return device.type in ("cuda", "xpu", "cpu")
