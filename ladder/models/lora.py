"""LoRA extensions: QLoRA adapters in full precision, LoRA+ learning rates."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from peft.optimizers import create_loraplus_optimizer
from torch import nn
from transformers import Trainer

from ladder.pipeline.stage import UserError


@contextmanager
def adapters_unrounded(model: nn.Module) -> Iterator[None]:
    """Restore the dtype and values of trainable weights after the construction of a TRL trainer.

    TRL casts the adapter of a quantized model to bfloat16. There an AdamW step of 1e-4 on a weight of 0.05 is lost (the
    adjacent values are 2.4e-4 apart), and the parent's adapter would change before the first step.
    """
    kept = {name: weight.data for name, weight in model.named_parameters() if weight.requires_grad}
    yield
    for name, weight in model.named_parameters():
        if name in kept:
            weight.data = kept[name]


def lora_plus_optimizer(trainer: Trainer, ratio: float) -> torch.optim.Optimizer:
    """LoRA+: the trainer's optimizer, with the learning rate of B (and DoRA's magnitudes) `ratio` times that of A.

    (Hayou et al. 2024, section 4.) Errors: UserError if there is no adapter.
    """
    if not isinstance(trainer.model, PeftModel):
        raise UserError(
            "lora_plus: no adapter is trained, so no matrix B can have a higher learning rate. "
            "Set lora: {r: 16}, or lora_plus: null."
        )
    arguments: Any = trainer.args
    kind, settings = Trainer.get_optimizer_cls_and_kwargs(arguments)
    rate = settings.pop("lr")
    return create_loraplus_optimizer(
        trainer.model, kind, lr=rate, loraplus_lr_ratio=ratio, loraplus_weight_decay=arguments.weight_decay, **settings
    )
