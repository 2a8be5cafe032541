"""Dry run of optimizer, learning rate schedule and adapter, before any weights are read.

Libraries raise an error only on use, after the weights are read: for an optimizer that is not installed, wrong schedule
arguments, or an adapter that matches no layer. The dry run uses them on a tiny layer and on a model on the meta device.
"""

import copy
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    Trainer,
    TrainingArguments,
    get_scheduler,
)

from ladder.models.config_passthrough import build
from ladder.models.lora_settings import adapted
from ladder.pipeline.stage import UserError

STEPS = 10


def rehearse(arguments: TrainingArguments) -> None:
    """Take one optimizer step with `arguments`. Errors: UserError with the library's message."""
    layer = torch.nn.Linear(1, 1, bias=False, device=arguments.device)
    with torch.random.fork_rng(devices=[]):
        _optimizer(arguments, layer)


def _optimizer(arguments: TrainingArguments, layer: Any) -> None:
    name = getattr(arguments.optim, "value", arguments.optim)
    try:
        kind, keywords = Trainer.get_optimizer_cls_and_kwargs(arguments, layer)
        optimizer = kind(layer.parameters(), **keywords)
        layer(torch.ones(1, 1, device=arguments.device)).sum().backward()
        optimizer.step()
    except (ImportError, ValueError, TypeError, RuntimeError, AttributeError, NotImplementedError, KeyError) as error:
        raise UserError(
            f"trainer.optim: {name} does not run here with optim_args {arguments.optim_args!r}: {_line(error)}"
        ) from None
    keywords = dict(given) if isinstance(given := arguments.lr_scheduler_kwargs, dict) else {}
    schedule = getattr(arguments.lr_scheduler_type, "value", arguments.lr_scheduler_type)
    try:
        get_scheduler(
            arguments.lr_scheduler_type,
            optimizer=optimizer,
            num_warmup_steps=arguments.get_warmup_steps(STEPS),
            num_training_steps=STEPS,
            scheduler_specific_kwargs=keywords,
        )
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"trainer.lr_scheduler_kwargs: {arguments.lr_scheduler_kwargs!r} does not fit {schedule}: {_line(error)}"
        ) from None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


def rehearse_adapter(complete: Path, lora: dict[str, Any], *, task: str, fused: bool) -> None:
    """Attach the adapter to a model on the meta device. Errors: UserError as `lora_settings.adapted`.

    `complete` is the complete rung under the adapter.
    """
    config = AutoConfig.from_pretrained(complete, trust_remote_code=False)
    with torch.random.fork_rng(devices=[]):  # keep the random state for the real adapter's initialization
        _rehearse_adapter(config, lora, task=task, fused=fused)


def _rehearse_adapter(config: Any, lora: dict[str, Any], *, task: str, fused: bool) -> None:
    with torch.device("meta"):
        if task == "SEQ_CLS":
            config.num_labels = 1
            bare = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
        else:
            bare = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    # Initial values need weights. The set of matched layers does not depend on them.
    plain = {"target_modules": "all-linear", **lora, "init_lora_weights": False, "use_dora": False, "task_type": task}
    adapted(bare, build(LoraConfig, copy.deepcopy(plain)), fused=fused)


def check_router(complete: Path, coefficient: float | None) -> None:
    """Refuse a nonzero router_aux_loss_coef for a model without experts. Errors: UserError."""
    if not coefficient:
        return
    config = AutoConfig.from_pretrained(complete, trust_remote_code=False)
    if not hasattr(config.get_text_config(), "output_router_logits"):
        raise UserError(
            f"trainer.router_aux_loss_coef: expected a mixture-of-experts model, but {complete.name} has no router. "
            "Omit the key."
        )
