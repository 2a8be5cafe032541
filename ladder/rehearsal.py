"""Try an optimizer, a schedule and an adapter without weights, before any weight is read.

Libraries refuse an optimizer that is not installed, wrong arguments of a schedule, or an adapter that fits no layer
only when they are used, which is after the weights are read. Here they are used on a tiny layer, and on a model whose
weights have no memory.
"""

import re
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    Trainer,
    TrainingArguments,
    get_scheduler,
)

from ladder.run import Refused

STEPS = 10


def rehearse(arguments: TrainingArguments) -> None:
    """Take one step as `arguments` say. Errors: Refused with the library's own words."""
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
        raise Refused(
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
        raise Refused(
            f"trainer.lr_scheduler_kwargs: {arguments.lr_scheduler_kwargs!r} does not fit {schedule}: {_line(error)}"
        ) from None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


def rehearse_adapter(complete: Path, lora: dict[str, Any], *, task: str, fused: bool) -> None:
    """Put the adapter on a model without weights. Errors: Refused for what peft, or a fused head, would refuse later.

    `complete` is the complete rung under the adapter. A trainer with a `fused` head multiplies by lm_head's weights
    itself, so an adapter there would never be trained.
    """
    config = AutoConfig.from_pretrained(complete)
    with torch.device("meta"):
        if task == "SEQ_CLS":
            config.num_labels = 1
            bare = AutoModelForSequenceClassification.from_config(config)
        else:
            bare = AutoModelForCausalLM.from_config(config)
    # Initial values need weights; which layers are reached does not depend on them.
    plain = {"target_modules": "all-linear", **lora, "init_lora_weights": False, "use_dora": False, "task_type": task}
    _check_names(bare, lora)
    try:
        adapted = get_peft_model(bare, LoraConfig(**plain), low_cpu_mem_usage=True)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, re.error) as error:
        raise Refused(f"lora: {_line(error)}") from None
    if fused and isinstance(adapted.get_output_embeddings(), BaseTunerLayer):
        raise Refused("lora.target_modules: the output layer lm_head takes no adapter here; leave it out")


def _check_names(bare: Any, lora: dict[str, Any]) -> None:
    """Refuse names and numbers of layers that the model lacks: peft leaves out what matches nothing."""
    modules = [name for name, _ in bare.named_modules() if name]
    parameters = [name for name, _ in bare.named_parameters()]
    for key in ("target_modules", "exclude_modules", "modules_to_save", "target_parameters", "rank_pattern",
                "alpha_pattern"):  # fmt: skip
        given = lora.get(key)
        known = parameters if key == "target_parameters" else modules
        if given is None or given == "all-linear":
            continue
        as_pattern = isinstance(given, str | dict)
        for one in [given] if isinstance(given, str) else given:
            if not any(_names(one, name, whole=isinstance(given, str), pattern=as_pattern) for name in known):
                layers = sorted({name.rpartition(".")[2] for name in known if not name.rpartition(".")[2].isdigit()})
                raise Refused(f"lora.{key}: no layer of the model matches {one!r}; its layers are {', '.join(layers)}")
    count = bare.config.get_text_config().num_hidden_layers
    wanted = lora.get("layers_to_transform")
    for layer in [wanted] if isinstance(wanted, int) else wanted or []:
        if not 0 <= layer < count:
            raise Refused(f"lora.layers_to_transform: expected layers from 0 to {count - 1}, got {layer}")


def _names(given: str, name: str, *, whole: bool, pattern: bool) -> bool:
    """Whether peft would take `given` for the layer `name`: a suffix, or a regular expression."""
    if not pattern:
        return name == given or name.endswith(f".{given}")
    try:
        return bool(re.fullmatch(given if whole else rf"(.*\.)?({given})", name))
    except re.error as error:
        raise Refused(f"lora: {given!r} is no regular expression: {error}") from None


def check_router(complete: Path, coefficient: float | None) -> None:
    """Refuse router_aux_loss_coef for a model without experts."""
    if coefficient and not hasattr(AutoConfig.from_pretrained(complete).get_text_config(), "output_router_logits"):
        raise Refused(
            f"trainer.router_aux_loss_coef: expected a mixture-of-experts model, and {complete.name} has no router; "
            "leave it out"
        )
