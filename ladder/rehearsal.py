"""One step of the optimizer and the schedule on two numbers, before any weight is read.

Libraries refuse an optimizer that is not installed, its arguments and a schedule's arguments only when they are used,
which is after the weights are read. Here they are used on a tiny layer first.
"""

import torch
from transformers import Trainer, TrainingArguments, get_scheduler

from ladder.run import Refused

STEPS = 10


def rehearse(arguments: TrainingArguments) -> None:
    """Take one step as `arguments` say. Errors: Refused with the library's own words."""
    layer = torch.nn.Linear(1, 1, bias=False, device=arguments.device)
    with torch.random.fork_rng(devices=[]):
        _optimizer(arguments, layer)


def _optimizer(arguments: TrainingArguments, layer: torch.nn.Module) -> None:
    name = getattr(arguments.optim, "value", arguments.optim)
    try:
        kind, keywords = Trainer.get_optimizer_cls_and_kwargs(arguments, layer)
        optimizer = kind(layer.parameters(), **keywords)
        layer(torch.ones(1, 1, device=arguments.device)).sum().backward()
        optimizer.step()
    except (ImportError, ValueError, TypeError, RuntimeError, AttributeError, NotImplementedError, KeyError) as error:
        raise Refused(
            f"trainer.optim: {name} does not run here with optim_args {arguments.optim_args!r}: {_line(error)}"
        ) from None
    schedule = getattr(arguments.lr_scheduler_type, "value", arguments.lr_scheduler_type)
    try:
        get_scheduler(
            arguments.lr_scheduler_type,
            optimizer=optimizer,
            num_warmup_steps=arguments.get_warmup_steps(STEPS),
            num_training_steps=STEPS,
            scheduler_specific_kwargs=dict(arguments.lr_scheduler_kwargs or {}),  # type: ignore[call-overload]
        )
    except (ValueError, TypeError, KeyError) as error:
        raise Refused(
            f"trainer.lr_scheduler_kwargs: {arguments.lr_scheduler_kwargs!r} does not fit {schedule}: {_line(error)}"
        ) from None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
