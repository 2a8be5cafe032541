"""Add an adapter's weights to its base where embedding and output layer are one matrix (tied embeddings)."""

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
    """The complete model of a PeftModel: base plus adapter, whose config says whether its embeddings are still tied.

    peft adds the update of a LoRA on the embedding to the one matrix that the output layer also uses: another model
    than the adapter on the base. Here the output layer gets its own copy first, so that each gets its own update.
    With `ensure_weight_tying` both updates are the same, and the result stays tied.
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
    """Whether an adapter changes one matrix at a time: LoRA, or trained tokens of one layer alone."""
    if isinstance(head, BaseTunerLayer) or isinstance(embedding, BaseTunerLayer):
        return True
    if isinstance(head, TrainableTokensWrapper):
        adapter: Any = head.token_adapter
        return not adapter.tied_adapter
    return isinstance(embedding, TrainableTokensWrapper)


def _one_update(head: Any, embedding: Any) -> bool:
    """Whether peft gave both layers one LoRA, transposed (`ensure_weight_tying`)."""
    if not isinstance(head, Linear) or not isinstance(embedding, Embedding):
        return False
    names = embedding.active_adapters
    pairs: list[tuple[Any, Any]] = [(head.lora_A[name].weight, embedding.lora_embedding_B[name]) for name in names]
    return all(first.data_ptr() == second.data_ptr() for first, second in pairs)


def _original(module: Any) -> Any:
    """The layer of the base under everything that peft put around it."""
    while True:
        if isinstance(module, BaseTunerLayer):
            module = module.get_base_layer()
        elif isinstance(module, AuxiliaryTrainingWrapper):
            module = module.original_module
        else:
            return module


def untied(adapter: Path, base: PretrainedConfig) -> tuple[PretrainedConfig, str, str] | None:
    """What `merged` makes of a tied base: its config, the output layer and the embedding; None where it stays tied.

    Read from the adapter's tensor names; no weight is read.
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
    # tokens trained in the embedding alone are trained in the tied output layer as well
    if not of_head and all("trainable_tokens" in tensor for tensor in of_embedding):
        return None
    config = copy.deepcopy(base)
    config.tie_word_embeddings = False
    return config, head, embedding
