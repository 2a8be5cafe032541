"""Peak GPU memory of a training step and of generation, by part, computed from a model's configuration.

The bytes per token are those of the tensors that autograd saves in transformers' decoder layers under bf16 autocast,
added up by hand; docs/plan.md compares the result with measured peaks. Base weights of an adapter are bf16, weights
that are all trained are float32 with bf16 copies by autocast, gradients and adapters are float32.
"""

from dataclasses import dataclass
from typing import Any, Literal

from ladder.pipeline.errors import UserError
from ladder.plan.adapters import Adapter
from ladder.plan.weights import Weight, completed, heads, parameters, whole

Method = Literal["full", "lora", "dora", "qlora"]
METHODS: tuple[Method, ...] = ("full", "lora", "dora", "qlora")
NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)
"""Bits of a weight in NF4 with double quantization: 4.127 (Dettmers et al. 2023, section 3)."""
OPTIMIZER_BYTES = {"adamw": 8.0, "adamw_8bit": 2.0 + 2 * 4 / 256, "paged_adamw_8bit": 2.0 + 2 * 4 / 256, "sgd": 0.0}
"""Bytes of optimizer states of a trained weight; the 8-bit states have a float32 scale for each block of 256."""
CONTEXT = 0.6e9
"""Bytes that the CUDA context and loaded kernels take beside PyTorch's allocations."""
TILE = 4096 * 8192 * 6
"""Bytes of one tile of logits in TRL's fused output layer: 4096 tokens x 8192 words, in bf16 and float32."""


@dataclass(frozen=True)
class Step:
    """One forward and backward pass."""

    tokens: int
    """Tokens of a micro-batch, padding included."""
    method: Method = "lora"
    optimizer: str = "adamw"
    checkpointing: bool = False
    """Gradient checkpointing: only each layer's input is saved."""
    packed: bool = False
    """Rows laid end to end. With padding, key heads are repeated for grouped-query attention."""
    liger: bool = False
    """Fused norm and SwiGLU kernels of liger-kernel, which save less."""
    cast: bool = True
    """peft's float32 cast of an adapter's input, which keeps a copy of it for each adapted layer."""
    full_logits: bool = False
    """Loss over logits [tokens, vocabulary] in one piece, as transformers' own trainer computes it."""
    accumulated: bool = False
    """More than one micro-batch in a step: the gradients exist while the next micro-batch runs."""
    reference: bool = False
    """A reference model that is not the trained model with its adapter off."""


@dataclass(frozen=True)
class Memory:
    """Bytes by part. `peak` is less than their sum, because not all parts exist at the same time."""

    weights: float
    adapter: float
    reference: float
    optimizer: float
    gradients: float
    copies: float
    """bf16 copies of float32 weights by autocast, or one layer's dequantized weights."""
    activations: float
    loss: float
    transient: float
    """Gradients of activations in the largest layer's backward pass."""
    peak: float

    @property
    def on_gpu(self) -> float:
        """Bytes of the GPU that are in use at the peak, with the CUDA context."""
        return self.peak + CONTEXT


def memory(config: dict[str, Any], weights: list[Weight], step: Step, adapter: Adapter | None) -> Memory:
    """Return the memory of a training step. `adapter` is None if all weights are trained.

    Errors: UserError for an unknown optimizer.
    """
    if step.optimizer not in OPTIMIZER_BYTES:
        raise UserError(f"optimizer: expected one of {', '.join(OPTIMIZER_BYTES)}, got {step.optimizer!r}")
    total, text = parameters(weights), completed(config)
    trained = total if adapter is None else adapter.trainable
    width, vocabulary = whole(text, "hidden_size"), whole(text, "vocab_size")
    linear = [each for each in weights if each.linear and each.part != "head"]
    stored = weight_bytes(weights, step.method)
    copies = 2.0 * sum(each.size for each in weights if each.linear) if adapter is None else 0.0
    if step.method == "qlora":
        copies = 2.0 * max(each.size for each in linear)
    reference = weight_bytes(weights, "lora") if step.reference and adapter is None else 0.0
    activations = step.tokens * bytes_per_token(text, step, adapter)
    loss = float(step.tokens * (10 * vocabulary if step.full_logits else 4 * width) + TILE * (not step.full_logits))
    inner = _inner(text)
    transient = step.tokens * inner * (10.0 if step.cast and step.method == "lora" else 6.0)
    if step.method == "dora":
        transient = step.tokens * inner * 14.0
    optimizer, gradients = OPTIMIZER_BYTES[step.optimizer] * trained, 4.0 * trained
    adapted = 0.0 if adapter is None else 4.0 * trained
    fixed = stored + adapted + reference + optimizer
    working = activations + copies + max(loss, transient)
    if adapter is not None or step.accumulated:
        peak = fixed + gradients + working
    else:  # gradients grow while activations are freed; that of the output layer comes first
        peak = fixed + max(working + 4.0 * vocabulary * width, gradients + copies)
    return Memory(stored, adapted, reference, optimizer, gradients, copies, activations, loss, transient, peak)


def weight_bytes(weights: list[Weight], method: Method) -> float:
    """Return the bytes of the model's weights: float32 where all are trained, else bf16, or NF4 in linear layers."""
    if method == "full":
        return 4.0 * parameters(weights)
    if method != "qlora":
        return 2.0 * parameters(weights)
    packed = sum(each.size for each in weights if each.linear and each.part != "head")
    return packed * NF4_BITS / 8 + 2.0 * (parameters(weights) - packed)


def bytes_per_token(text: dict[str, Any], step: Step, adapter: Adapter | None) -> float:
    """Return the bytes that autograd saves for one token, over all layers and the final norm."""
    layers, width = whole(text, "num_hidden_layers"), whole(text, "hidden_size")
    final_norm = width * (6.0 if adapter is not None else 10.0)
    one = layer_bytes(text, step, adapter)
    if step.checkpointing:
        # each layer's input, float32 where all weights are trained; and one layer, computed again
        return layers * width * (4.0 if adapter is None else 2.0) + one + final_norm
    return layers * one + final_norm


def layer_bytes(text: dict[str, Any], step: Step, adapter: Adapter | None) -> float:
    """Return the bytes that autograd saves for one token in one decoder layer."""
    layers, width, inner = whole(text, "num_hidden_layers"), whole(text, "hidden_size"), _inner(text)
    queries, keys, head = heads(text)
    query, key = queries * head, keys * head
    norms = 4 if str(text.get("model_type")).startswith(("gemma2", "gemma3")) else 2
    normed = norms * width + (query + key if text.get("model_type") in QUERY_NORMS else 0)
    attention = 4.0 * query + 4.0 * (key if step.packed else query)  # q, the output; k and v
    mlp = (4.0 if step.liger else 6.0) * inner  # gate, up, and without a fused kernel the activated gate, in bf16
    if adapter is None:
        # norms keep their float32 input and output; each linear layer keeps its own bf16 copy of its input
        copies = 2.0 * (3 * width + 2 * width * _routed(text) + inner)
        return (4.0 if step.liger else 8.0) * normed + attention + mlp + copies
    saved = (2.0 if step.liger else 4.0) * normed + attention + mlp
    rank = sum(2.0 * each for _, _, each in adapter.layers) / layers
    if step.cast and step.method != "qlora":  # bitsandbytes' layers skip the cast under autocast
        inputs = sum(2.0 * columns for columns, _, _ in adapter.layers) / layers
    else:  # layers that read the same tensor share it, and attention keeps its output anyway
        wide = sum(2.0 * columns for columns, _, _ in adapter.layers if columns == inner) / layers
        inputs = 4.0 * width + wide
    scaled = sum(4.0 * rows for _, rows, _ in adapter.layers) / layers if step.method == "dora" else 0.0
    return saved + inputs + rank + scaled


QUERY_NORMS = frozenset({"qwen3", "qwen3_moe", "gemma3_text"})
"""model_type with a norm on queries and keys."""


def _routed(text: dict[str, Any]) -> int:
    return whole(text, "num_experts_per_tok", 1)


def _inner(text: dict[str, Any]) -> int:
    """Width of the MLP that a token passes: that of one expert times the experts it is sent to."""
    moe = text.get("moe_intermediate_size")
    return int(moe or whole(text, "intermediate_size")) * _routed(text)


def cache_bytes(text: dict[str, Any], tokens: int) -> float:
    """Return the bytes of the key-value cache of one row of `tokens`, in bf16; sliding layers keep their window."""
    _, keys, head = heads(text)
    layers, window = whole(text, "num_hidden_layers"), text.get("sliding_window")
    pattern = text.get("sliding_window_pattern")
    kinds = text.get("layer_types")
    if isinstance(kinds, list):
        sliding = sum(kind == "sliding_attention" for kind in kinds)
    elif isinstance(pattern, int):
        sliding = layers - layers // pattern
    else:
        sliding = layers if text.get("model_type") == "mistral" and window else 0
    seen = min(tokens, window) if isinstance(window, int) else tokens
    return 4.0 * keys * head * ((layers - sliding) * tokens + sliding * seen)
