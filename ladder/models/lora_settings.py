"""Validation of LoRA settings: those that a rung can keep, and those that a reader does not support."""

import copy
import re
import warnings
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import ModulesToSaveWrapper, TrainableTokensWrapper

from ladder.pipeline.stage import UserError

SURROUNDINGS = {"task_type", "base_model_name_or_path", "inference_mode", "peft_version", "auto_mapping", "revision"}


def beyond(directory: Path, known: set[str]) -> str | None:
    """First setting of the adapter in `directory` that is neither peft's default nor in `known`, with its value; or
    None."""
    config, plain = vars(LoraConfig.from_pretrained(str(directory))), vars(LoraConfig())
    other = sorted(key for key in config.keys() - known - SURROUNDINGS if config[key] != plain.get(key))
    return f"{other[0]}: {config[other[0]]!r}" if other else None


NO_EFFECT = {
    "layer_replication": "the layers share weights, which a complete model cannot. Merge with slices instead.",
    "alora_invocation_tokens": "peft cannot merge this type of adapter into the weights. Omit the key.",
    "use_qalora": "no effect on weights that are not GPTQ. Set quantization: {load_in_4bit: true}.",
    "megatron_config": "no effect, because Megatron's layers are not used. Omit the key.",
    "arrow_config": "it routes between several adapters, and a rung has one. Omit the key.",
    "kasa_config": "it truncates the base's weights, so training would start from another model. Omit the key.",
    "inference_mode": "no weight would be trained. Omit the key.",
}
"""LoraConfig settings that a rung cannot have, with the alternative."""


def adapted(model: Any, config: LoraConfig, *, fused: bool) -> PeftModel:
    """Create a new adapter on a model. `fused`: the trainer uses the output layer's weight and skips its forward.

    Errors: UserError for settings that match nothing in the model, that a rung cannot keep, or that would not be
    trained.
    """
    for key, fix in NO_EFFECT.items():
        if getattr(config, key):
            raise UserError(f"lora.{key}: {fix}")
    asked = copy.deepcopy(config)  # peft modifies it
    check_names(model, asked)
    try:
        with warnings.catch_warnings(
            action="ignore", category=UserWarning
        ):  # of tied embeddings: ladder/models/tied_embeddings.py
            made: Any = get_peft_model(model, config)
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, NotImplementedError, re.error) as error:
        raise UserError(f"lora: refused by peft: {' '.join(str(error).split())}") from None
    for layer in made.modules():
        if (
            isinstance(layer, LoraLayer)
            and any(layer.lora_bias.values())
            and getattr(layer.get_base_layer(), "bias", None) is None
        ):
            raise UserError(
                "lora.lora_bias: the layers have no bias, so the adapter's bias cannot be merged. Omit the key."
            )
    _check_embeddings(made, asked)
    fit_head(made, fused=fused)
    return made


def check_names(model: Any, config: LoraConfig) -> None:
    """Refuse names that match no module of the model; peft ignores them if another name matches. Errors: UserError."""
    names = [name for name, _ in model.named_modules()]
    weights = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    targets = config.target_modules if isinstance(config.target_modules, set | list | tuple) else ()
    if isinstance(config.modules_to_save, str):
        raise UserError(f"lora.modules_to_save: expected a list of names, got {config.modules_to_save!r}")
    for key, asked, known in (
        ("target_modules", targets, names),
        ("modules_to_save", config.modules_to_save or (), names),
        ("target_parameters", config.target_parameters or (), weights),
        ("exclude_modules", () if isinstance(config.exclude_modules, str) else config.exclude_modules or (), names),
    ):
        for name in sorted(asked):
            if not any(each == name or each.endswith(f".{name}") for each in known):
                raise UserError(f"lora.{key}: no module is named {name!r}; expected one of {_last_names(known)}")
    for key in ("rank_pattern", "alpha_pattern"):
        for pattern in getattr(config, key) or {}:
            if not any(re.match(rf"(.*\.)?({pattern})$", name) for name in names):
                raise UserError(f"lora.{key}: no module matches {pattern!r}; modules are {_last_names(names)}")
    layers = model.config.get_text_config().num_hidden_layers
    chosen = config.layers_to_transform
    for layer in [chosen] if isinstance(chosen, int) else chosen or ():
        if not 0 <= layer < layers:
            raise UserError(f"lora.layers_to_transform: expected layers from 0 to {layers - 1}, got {layer}")
    tokens, rows = config.trainable_token_indices or (), model.get_input_embeddings().weight.shape[0]
    for token in sum(tokens.values(), []) if isinstance(tokens, dict) else tokens:
        if not 0 <= token < rows:
            raise UserError(f"lora.trainable_token_indices: expected tokens from 0 to {rows - 1}, got {token}")


def _last_names(names: list[str]) -> str:
    """Distinct last components of module or weight names, without numbers."""
    parts = {re.sub(r"^.*\.(?=[^.]+(\.(weight|bias))?$)", "", name) for name in names}
    return ", ".join(sorted(part for part in parts if part and not part.isdigit()))


def _check_embeddings(model: Any, config: LoraConfig) -> None:
    base = model.get_base_model()
    head, embedding = base.get_output_embeddings(), base.get_input_embeddings()
    layers = [layer for layer in (head, embedding) if layer is not None]
    saved = any(isinstance(each, ModulesToSaveWrapper) for layer in layers for each in layer.modules())
    if config.trainable_token_indices and saved and base.config.tie_word_embeddings:
        raise UserError(
            f"lora.trainable_token_indices: the embeddings are tied, and lora.modules_to_save: "
            f"{config.modules_to_save} trains the same matrix. Use one of the two keys."
        )
    if config.ensure_weight_tying:
        if not base.config.tie_word_embeddings or not any(_wrapped(layer) for layer in layers):
            raise UserError(
                "lora.ensure_weight_tying: no effect; expected a model with tied embeddings, and embed_tokens in "
                "lora.modules_to_save or lora.trainable_token_indices. Omit the key."
            )
        if any(isinstance(layer, BaseTunerLayer) for layer in layers):
            raise UserError(
                "lora.ensure_weight_tying: a LoRA on lm_head is not trained. Add lora.modules_to_save: "
                "[embed_tokens, lm_head], or omit the key."
            )


def fit_head(model: Any, *, fused: bool) -> None:
    """If `fused`, make sure that the output layer's `weight` is all its forward uses: the trainer reads only that.

    Errors: UserError for a LoRA on the output layer, which would not be trained, or for trained tokens on an output
    layer with a bias, which the trainer would miss.
    """
    head: Any = model.get_base_model().get_output_embeddings()
    if not fused or head is None:
        return
    if isinstance(head, BaseTunerLayer):
        raise UserError(
            "lora.target_modules: the trainer reads lm_head.weight without its adapter, which would not be trained. "
            "Use lora.modules_to_save: [lm_head]."
        )
    if isinstance(head, TrainableTokensWrapper):
        if getattr(head.original_module, "bias", None) is not None:
            raise UserError(
                "lora.trainable_token_indices: the output layer has a bias, which the trainer does not find below the "
                "adapter. Use lora.modules_to_save: [embed_tokens, lm_head]."
            )
        head.bias = None  # type: ignore[assignment]  # the trainer reads it, and peft's wrapper does not forward it


def _wrapped(layer: Any) -> bool:
    return isinstance(layer, BaseTunerLayer | ModulesToSaveWrapper | TrainableTokensWrapper)
