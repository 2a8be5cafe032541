"""Merge an adapter into a base with tied embeddings (embedding and output layer share one matrix)."""

import copy
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora.layer import Embedding, Linear
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper, TrainableTokensWrapper
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig

from ladder.models.weights import declare, read_object, tensor_shapes


def merged(model: Any) -> Any:
    """Merge a PeftModel into a complete model. Its config is updated if its embeddings are no longer tied.

    peft adds the update of a LoRA on the embedding to the matrix that the output layer shares. The result differs from
    the base with the adapter. Here the output layer first gets its own copy, so that each layer gets its own update.
    With `ensure_weight_tying` both updates are equal, and the result stays tied.
    """
    base = model.get_base_model()
    head, embedding = base.get_output_embeddings(), base.get_input_embeddings()
    apart = head is not None and _original(head).weight is _original(embedding).weight and _differ(head, embedding)
    alike = apart and _one_update(head, embedding)
    if apart:
        _original(head).weight = nn.Parameter(_original(head).weight.detach().clone(), requires_grad=False)
    whole = model.merge_and_unload()
    if alike:
        whole.get_output_embeddings().weight = whole.get_input_embeddings().weight
    declare(whole)
    return whole


def _differ(head: Any, embedding: Any) -> bool:
    """Whether the adapter updates the two layers differently: LoRA, or trained tokens of only one layer."""
    if isinstance(head, BaseTunerLayer) or isinstance(embedding, BaseTunerLayer):
        return True
    if isinstance(head, TrainableTokensWrapper):
        adapter: Any = head.token_adapter
        return not adapter.tied_adapter
    return isinstance(embedding, TrainableTokensWrapper)


def _one_update(head: Any, embedding: Any) -> bool:
    """Whether peft gave both layers the same LoRA, transposed (`ensure_weight_tying`)."""
    if not isinstance(head, Linear) or not isinstance(embedding, Embedding):
        return False
    names = embedding.active_adapters
    pairs: list[tuple[Any, Any]] = [(head.lora_A[name].weight, embedding.lora_embedding_B[name]) for name in names]
    return all(first.data_ptr() == second.data_ptr() for first, second in pairs)


def _original(module: Any) -> Any:
    """Base layer inside all of peft's wrappers."""
    while True:
        if isinstance(module, BaseTunerLayer):
            module = module.get_base_layer()
        elif isinstance(module, AuxiliaryTrainingWrapper):
            module = module.original_module
        else:
            return module


def untied(adapter: Path, base: PretrainedConfig) -> tuple[PretrainedConfig, str, str] | None:
    """Predict `merged` for a tied base: (config, output layer name, embedding name), or None if it stays tied.

    Uses only the adapter's tensor names; no weights are read.
    """
    if not base.tie_word_embeddings:
        return None
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(base, trust_remote_code=False)
    names = {id(module): name for name, module in model.named_modules()}
    head, embedding = names[id(model.get_output_embeddings())], names[id(model.get_input_embeddings())]
    if read_object(adapter / "adapter_config.json").get("ensure_weight_tying"):
        return None
    stored = tensor_shapes(adapter / "adapter_model.safetensors")
    of_head, of_embedding = (
        [tensor for tensor in stored if tensor.startswith(f"base_model.model.{name}.")] for name in (head, embedding)
    )
    # Tokens trained only in the embedding are also trained in the tied output layer.
    if not of_head and all("trainable_tokens" in tensor for tensor in of_embedding):
        return None
    config = copy.deepcopy(base)
    config.tie_word_embeddings = False
    return config, head, embedding
