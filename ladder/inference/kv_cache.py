"""KV cache with slots, and its attention function: each row of a batch has its own position."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, Cache, PreTrainedConfig, PreTrainedModel

ATTENTION = "ladder_slots"
# Families whose only state is a causal KV cache and whose positions are rotary; a test runs each of them.
FAMILIES = {"granite", "llama", "mistral", "olmo2", "qwen2", "qwen3", "smollm3"}


def fits_slots(config: PreTrainedConfig) -> bool:
    """Whether every layer attends to the full past, with rotary angles that do not depend on the batch."""
    full = all(kind == "full_attention" for kind in getattr(config, "layer_types", None) or [])
    rope_type = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    by_batch = rope_type in ("dynamic", "longrope")
    return config.model_type in FAMILIES and full and not getattr(config, "sliding_window", None) and not by_batch


class SlotCache(Cache):
    """Keys and values by layer and slot, each [slots, kv_heads, capacity, head_dim].

    A decoding step writes one token per row, at the row's own position, and attends to the first `length` positions.
    """

    def __init__(self, config: PreTrainedConfig, slots: int, capacity: int, like: Tensor) -> None:
        super().__init__(layers=[])
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        shape = (slots, config.num_key_value_heads, capacity, head_dim)
        # Zeros, not empty: a masked position contributes 0 times its value, which must not be NaN.
        self.tensors = [like.new_zeros(shape) for _ in range(2 * config.num_hidden_layers)]
        self.slot = torch.arange(slots, device=like.device)
        self.position = torch.zeros(slots, dtype=torch.long, device=like.device)
        self.length = capacity

    @property
    def capacity(self) -> int:
        return self.tensors[0].shape[2]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        rows = len(key_states)
        keys, values = self.tensors[2 * layer_idx : 2 * layer_idx + 2]
        where = self.slot[:rows], slice(None), self.position[:rows]
        keys[where], values[where] = key_states[:, :, 0], value_states[:, :, 0]
        return keys[:rows, :, : self.length], values[:rows, :, : self.length]

    def resize(self, capacity: int) -> None:
        """Change the number of positions per slot; positions that are cut off must belong to no live row."""
        self.tensors = [F.pad(cached, (0, 0, 0, capacity - cached.shape[2])) for cached in self.tensors]
        self.length = capacity


def attend(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Attention for transformers' AttentionInterface: query [rows, heads, n, head_dim] → [rows, n, heads, head_dim].

    Without a mask it is causal: prompts are padded on the right, where no real token attends to the padding. With an
    additive mask [rows, 1, 1, length] it is one decoding step. The query heads that share a key/value head become the
    rows of one small product, so keys and values are read once and never repeated.
    """
    scale = kwargs["scaling"]
    if attention_mask is None:
        out = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale, enable_gqa=True)
        return out.transpose(1, 2), None
    rows, heads, _, head_dim = query.shape
    grouped = query.reshape(rows, key.shape[1], -1, head_dim)
    if query.is_cuda:
        out = F.scaled_dot_product_attention(grouped, key, value, attention_mask, scale=scale)
    else:  # with few query rows, two products take a quarter to a third of the time of the CPU's flash kernel
        scores = torch.add(attention_mask, grouped @ key.transpose(-1, -2), alpha=scale)
        out = scores.softmax(-1).to(value.dtype) @ value
    return out.reshape(rows, 1, heads, head_dim), None


AttentionInterface.register(ATTENTION, attend)  # without a mask function, transformers passes our mask unchanged


@contextmanager
def slot_attention(model: PreTrainedModel) -> Iterator[None]:
    """Run the model in evaluation mode with `attend`; restore the mode and the attention function afterward."""
    attention, training = model.config._attn_implementation, model.training
    model.set_attn_implementation(ATTENTION)
    model.eval()
    try:
        yield
    finally:
        model.set_attn_implementation(attention)
        model.train(training)
