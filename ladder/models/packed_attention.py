"""Attention for packed rows: several conversations in one row of tokens, isolated from each other.

Packing is correct only if attention stops at conversation boundaries. Here this holds by construction: a batch is one
row of tokens with the boundaries of its sequences (`cu_seq_lens`), and each sequence attends only to itself. CUDA uses
one call of torch's variable-length flash kernel; other devices process one sequence after another. `isolation_gate`
verifies the isolation on the actual model before training, including the effect of its other layers.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from ladder.data.jsonl import Row
from ladder.pipeline.stage import UserError

NAME = "packed"
HALF = (torch.bfloat16, torch.float16)


class NotPackable(UserError):
    """The model cannot compute rows that lie end to end as if each were alone; the message says why."""


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    edges: Tensor,
    longest: int,
    scale: float | None,
    window: int | None = None,
) -> Tensor:
    """Causal attention within each sequence.

    Shapes: query [tokens, heads, dim], key and value [tokens, key heads, dim], edges [sequences + 1] from 0 to
    tokens; `longest` is the length of the longest sequence. With `window`, a token attends to itself and the
    window - 1 tokens before it. Returns [tokens, heads, dim].
    """
    if window is not None and window >= longest:
        window = None
    if query.is_cuda and value.dtype in HALF:
        # Under autocast, float32 rotary embeddings leave query and key in float32; the kernel needs a single dtype.
        query, key = query.to(value.dtype), key.to(value.dtype)
        kernel: Any = varlen_attn
        return kernel(
            query,
            key,
            value,
            edges,
            edges,
            longest,
            longest,
            scale=scale,
            window_size=(-1 if window is None else window - 1, 0),
            enable_gqa=True,
        )
    outputs = []
    for start, end in pairwise(edges.tolist()):
        q, k, v = (whole[start:end].transpose(0, 1)[None] for whole in (query, key, value))
        if window is None or end - start <= window:
            outputs.append(scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True))
        else:
            near = torch.ones(end - start, end - start, dtype=torch.bool, device=q.device).tril().triu(1 - window)
            outputs.append(scaled_dot_product_attention(q, k, v, attn_mask=near, scale=scale, enable_gqa=True))
    return torch.cat(outputs, dim=2)[0].transpose(0, 1)


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int = 0,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention for transformers' interface. Shapes: query [1, heads, tokens, dim]; returns [1, tokens, heads, dim].

    Errors: NotPackable for features that the kernel lacks: dropout, capped scores, sinks.
    """
    if cu_seq_lens_q is None or len(query) != 1:
        raise ValueError("packed attention is for batches of TRL's padding-free collator, one row with cu_seq_lens_q")
    asked = {
        "attention_dropout": dropout > 0,
        "softcap": others.get("softcap") is not None,
        "attention sinks": others.get("s_aux") is not None,
    }
    for name, wanted in asked.items():
        if wanted:
            raise NotPackable(f"this model's attention uses {name}, which packed attention does not support")
    q, k, v = (states[0].transpose(0, 1) for states in (query, key, value))
    return attend(q, k, v, cu_seq_lens_q, max_length_q, scaling, others.get("sliding_window"))[None], None


def attend_packed(model: PreTrainedModel) -> None:
    """Set the model's attention to packed attention. Errors: NotPackable if the model does not support a choice."""
    AttentionInterface.register(NAME, packed_attention)
    AttentionMaskInterface.register(NAME, lambda *_, **__: None)
    model.set_attn_implementation(NAME)
    if model.config._attn_implementation != NAME:
        raise NotPackable(f"the attention of {type(model).__name__} cannot be replaced")


def isolation_gate(model: Any, collate: Callable[[list[Row]], dict[str, Any]], rows: list[Row]) -> None:
    """Check that packed rows are isolated: other tokens in the first row must not change the second row's logits.

    `rows` are two rows of input_ids and labels [length]. Errors: NotPackable if the logits change.
    """
    model.train()  # as in training; in evaluation mode a CPU would repack 4-bit weights permanently
    first, second = rows
    after = len(first["input_ids"])
    before, changed = (_logits(model, collate, start, second)[after:] for start in (first, _reversed(first)))
    # A mixture of experts may group tokens differently, so allow for rounding.
    if not torch.allclose(before, changed, rtol=1e-3, atol=1e-3 * float(before.abs().max())):
        raise NotPackable("in this model's layers, packed rows attend to each other")


def _reversed(row: Row) -> Row:
    return {**row, "input_ids": row["input_ids"][::-1]}


def _logits(model: Any, collate: Callable[[list[Row]], dict[str, Any]], first: Row, second: Row) -> Tensor:
    packed = {name: first[name] + second[name] for name in ("input_ids", "labels")}
    batch = collate([{**packed, "seq_lengths": [len(first["input_ids"]), len(second["input_ids"])]}])
    where = next(model.parameters()).device
    inputs = {name: given.to(where) if isinstance(given, Tensor) else given for name, given in batch.items()}
    inputs.pop("labels")
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)  # same dropout in both calls
        return model(**inputs, use_cache=False).logits[0].float()
