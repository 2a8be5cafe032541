"""Weights of a model from its config.json: every parameter's module, shape and part, without torch.

`weights` has the layouts of the common decoder families. For any other architecture that transformers knows, the model
is built on torch's meta device, which takes seconds and no memory.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from ladder.pipeline.errors import UserError
from ladder.plan.config_defaults import DEFAULTS

Part = Literal["embedding", "attention", "mlp", "experts", "router", "norm", "head", "vision"]
PARTS: tuple[Part, ...] = ("embedding", "attention", "mlp", "experts", "router", "norm", "head", "vision")


@dataclass(frozen=True)
class Weight:
    """One parameter of a model."""

    module: str
    """Module that owns the parameter: `model.layers.0.self_attn.q_proj`."""
    name: str
    """Name within the module: `weight`, `bias`, or the name of a bare parameter."""
    shape: tuple[int, ...]
    """Shape; [d_out, d_in] for the weight of a linear layer, [experts, ...] for stacked experts."""
    part: Part
    linear: bool = False
    """Whether this is the weight of a torch.nn.Linear, which LoRA adapts and quantization packs."""
    tied: bool = False
    """Whether it is the input embedding's matrix under a second name, so that it is not counted."""

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def text_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return the language model's part of a configuration, with the outer `tie_word_embeddings` if only that is set."""
    inner = config.get("text_config")
    if not isinstance(inner, dict):
        return config
    tied = {key: config[key] for key in ("tie_word_embeddings",) if key in config and key not in inner}
    return {**inner, **tied}


def whole(config: dict[str, Any], key: str, default: int | None = None) -> int:
    """Return a positive whole number of a configuration. Errors: UserError if it is missing or of another type."""
    found = config.get(key)
    found = default if found is None else found
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise UserError(f"config.json: {key}: expected a whole number of at least 1, got {found!r}")
    return found


def completed(config: dict[str, Any]) -> dict[str, Any]:
    """Return the language model's configuration with the values that config.json leaves to transformers' defaults."""
    text = text_config(config)
    kind = "gemma3_text" if config.get("model_type") == "gemma3" else text.get("model_type")
    given = {key: value for key, value in text.items() if value is not None}
    return {**DEFAULTS.get(str(kind), {}), **given, "model_type": kind}


def heads(config: dict[str, Any]) -> tuple[int, int, int]:
    """Return (query heads, key heads, width of a head) of a text configuration."""
    queries = whole(config, "num_attention_heads")
    keys = whole(config, "num_key_value_heads", queries)
    return queries, keys, whole(config, "head_dim", max(1, whole(config, "hidden_size") // queries))


def weights(config: dict[str, Any]) -> list[Weight]:
    """Return all parameters of the causal language model that a config.json describes, in no particular order.

    Errors: UserError for a missing value, and for an architecture that transformers does not know.
    """
    kind = config.get("model_type")
    if kind == "gemma3" and (config.get("vision_config") or {}).get("vision_use_head", True) is False:
        return list(_gemma3(config))
    if kind in FAMILIES:
        return list(_decoder(completed(config), "model", FAMILIES[kind]))
    from ladder.plan.meta_device import from_meta_device

    return from_meta_device(config)


def parameters(found: list[Weight]) -> int:
    """Return the number of parameters, tied matrices counted once."""
    return sum(weight.size for weight in found if not weight.tied)


def by_part(found: list[Weight]) -> dict[Part, int]:
    """Return the number of parameters of each part that the model has."""
    sums = {part: sum(each.size for each in found if each.part == part and not each.tied) for part in PARTS}
    return {part: count for part, count in sums.items() if count}


Layer = Callable[[dict[str, Any], str, int], Iterator[Weight]]


def _linear(module: str, inputs: int, outputs: int, part: Part, bias: bool = False) -> Iterator[Weight]:
    yield Weight(module, "weight", (outputs, inputs), part, linear=True)
    if bias:
        yield Weight(module, "bias", (outputs,), part)


def _norm(module: str, width: int, part: Part = "norm", *, bias: bool = False) -> Iterator[Weight]:
    yield Weight(module, "weight", (width,), part)
    if bias:
        yield Weight(module, "bias", (width,), part)


def _decoder(config: dict[str, Any], root: str, layer: Layer) -> Iterator[Weight]:
    """Parameters of a decoder with its output layer; `root` is the module path of the decoder."""
    width, vocabulary = whole(config, "hidden_size"), whole(config, "vocab_size")
    yield Weight(f"{root}.embed_tokens", "weight", (vocabulary, width), "embedding")
    for number in range(whole(config, "num_hidden_layers")):
        yield from layer(config, f"{root}.layers.{number}", number)
    yield from _norm(f"{root}.norm", width)
    tied = bool(config.get("tie_word_embeddings"))
    yield Weight("lm_head", "weight", (vocabulary, width), "head", linear=True, tied=tied)


def _attention(config: dict[str, Any], at: str, *, inputs_bias: bool, output_bias: bool) -> Iterator[Weight]:
    width, (queries, keys, head) = whole(config, "hidden_size"), heads(config)
    for name, count in (("q", queries), ("k", keys), ("v", keys)):
        yield from _linear(f"{at}.self_attn.{name}_proj", width, count * head, "attention", inputs_bias)
    yield from _linear(f"{at}.self_attn.o_proj", queries * head, width, "attention", output_bias)


def _mlp(config: dict[str, Any], at: str, *, bias: bool = False) -> Iterator[Weight]:
    width, inner = whole(config, "hidden_size"), whole(config, "intermediate_size")
    yield from _linear(f"{at}.mlp.gate_proj", width, inner, "mlp", bias)
    yield from _linear(f"{at}.mlp.up_proj", width, inner, "mlp", bias)
    yield from _linear(f"{at}.mlp.down_proj", inner, width, "mlp", bias)


def _norms(config: dict[str, Any], at: str, *names: str) -> Iterator[Weight]:
    for name in names or ("input_layernorm", "post_attention_layernorm"):
        yield from _norm(f"{at}.{name}", whole(config, "hidden_size"))


def _query_norms(config: dict[str, Any], at: str) -> Iterator[Weight]:
    for name in ("q_norm", "k_norm"):
        yield from _norm(f"{at}.self_attn.{name}", heads(config)[2])


def _llama(config: dict[str, Any], at: str, _: int) -> Iterator[Weight]:
    bias = bool(config.get("attention_bias"))
    yield from _attention(config, at, inputs_bias=bias, output_bias=bias)
    yield from _mlp(config, at, bias=bool(config.get("mlp_bias")))
    yield from _norms(config, at)


def _mistral(config: dict[str, Any], at: str, _: int) -> Iterator[Weight]:
    yield from _attention(config, at, inputs_bias=False, output_bias=False)
    yield from _mlp(config, at)
    yield from _norms(config, at)


def _qwen2(config: dict[str, Any], at: str, _: int) -> Iterator[Weight]:
    yield from _attention(config, at, inputs_bias=True, output_bias=False)
    yield from _mlp(config, at)
    yield from _norms(config, at)


def _qwen3(config: dict[str, Any], at: str, _: int) -> Iterator[Weight]:
    bias = bool(config.get("attention_bias"))
    yield from _attention(config, at, inputs_bias=bias, output_bias=bias)
    yield from _query_norms(config, at)
    yield from _mlp(config, at)
    yield from _norms(config, at)


FOUR_NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)


def _gemma2(config: dict[str, Any], at: str, _: int) -> Iterator[Weight]:
    bias = bool(config.get("attention_bias"))
    yield from _attention(config, at, inputs_bias=bias, output_bias=bias)
    yield from _mlp(config, at)
    yield from _norms(config, at, *FOUR_NORMS)


def _gemma3_text(config: dict[str, Any], at: str, number: int) -> Iterator[Weight]:
    yield from _gemma2(config, at, number)
    yield from _query_norms(config, at)


def _phi3(config: dict[str, Any], at: str, _: int) -> Iterator[Weight]:
    width, inner, (queries, keys, head) = (
        whole(config, "hidden_size"),
        whole(config, "intermediate_size"),
        heads(config),
    )
    yield from _linear(f"{at}.self_attn.qkv_proj", width, (queries + 2 * keys) * head, "attention")
    yield from _linear(f"{at}.self_attn.o_proj", queries * head, width, "attention")
    yield from _linear(f"{at}.mlp.gate_up_proj", width, 2 * inner, "mlp")
    yield from _linear(f"{at}.mlp.down_proj", inner, width, "mlp")
    yield from _norms(config, at)


def _experts(config: dict[str, Any], at: str, count: int, inner: int) -> Iterator[Weight]:
    """Experts in transformers' stacked layout, [experts, d_out, d_in], and their router; none is a torch.nn.Linear."""
    width = whole(config, "hidden_size")
    yield Weight(f"{at}.mlp.gate", "weight", (count, width), "router")
    yield Weight(f"{at}.mlp.experts", "gate_up_proj", (count, 2 * inner, width), "experts")
    yield Weight(f"{at}.mlp.experts", "down_proj", (count, width, inner), "experts")


def _mixtral(config: dict[str, Any], at: str, _: int) -> Iterator[Weight]:
    yield from _attention(config, at, inputs_bias=False, output_bias=False)
    yield from _experts(config, at, whole(config, "num_local_experts"), whole(config, "intermediate_size"))
    yield from _norms(config, at)


def _qwen3_moe(config: dict[str, Any], at: str, number: int) -> Iterator[Weight]:
    bias = bool(config.get("attention_bias"))
    yield from _attention(config, at, inputs_bias=bias, output_bias=bias)
    yield from _query_norms(config, at)
    sparse = (number + 1) % whole(config, "decoder_sparse_step", 1) == 0
    if sparse and number not in (config.get("mlp_only_layers") or []):
        yield from _experts(config, at, whole(config, "num_experts"), whole(config, "moe_intermediate_size"))
    else:
        yield from _mlp(config, at)
    yield from _norms(config, at)


def _gpt_oss(config: dict[str, Any], at: str, _: int) -> Iterator[Weight]:
    width, inner = whole(config, "hidden_size"), whole(config, "intermediate_size")
    count, bias = whole(config, "num_local_experts"), bool(config.get("attention_bias", True))
    yield from _attention(config, at, inputs_bias=bias, output_bias=bias)
    yield Weight(f"{at}.self_attn", "sinks", (heads(config)[0],), "attention")
    yield Weight(f"{at}.mlp.router", "weight", (count, width), "router")
    yield Weight(f"{at}.mlp.router", "bias", (count,), "router")
    yield Weight(f"{at}.mlp.experts", "gate_up_proj", (count, width, 2 * inner), "experts")
    yield Weight(f"{at}.mlp.experts", "gate_up_proj_bias", (count, 2 * inner), "experts")
    yield Weight(f"{at}.mlp.experts", "down_proj", (count, inner, width), "experts")
    yield Weight(f"{at}.mlp.experts", "down_proj_bias", (count, width), "experts")
    yield from _norms(config, at)


FAMILIES: dict[str, Layer] = {
    "llama": _llama,
    "smollm3": _llama,
    "gemma": _llama,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "gemma2": _gemma2,
    "gemma3_text": _gemma3_text,
    "phi3": _phi3,
    "mixtral": _mixtral,
    "qwen3_moe": _qwen3_moe,
    "gpt_oss": _gpt_oss,
}
"""Layer layouts by model_type, as in transformers 5."""


def _gemma3(config: dict[str, Any]) -> Iterator[Weight]:
    """Gemma 3 with its SigLIP vision tower, as transformers loads the multimodal releases."""
    text, vision = completed(config), {**DEFAULTS["siglip_vision_model"], **config["vision_config"]}
    yield from _decoder(text, "model.language_model", _gemma3_text)
    width, inner, root = whole(vision, "hidden_size"), whole(vision, "intermediate_size"), "model.vision_tower"
    patch = whole(vision, "patch_size")
    yield Weight(f"{root}.embeddings.patch_embedding", "weight", (width, 3, patch, patch), "vision")
    yield Weight(f"{root}.embeddings.patch_embedding", "bias", (width,), "vision")
    places = (whole(vision, "image_size") // patch) ** 2
    yield Weight(f"{root}.embeddings.position_embedding", "weight", (places, width), "vision")
    for number in range(whole(vision, "num_hidden_layers")):
        at = f"{root}.encoder.layers.{number}"
        for name in ("layer_norm1", "layer_norm2"):
            yield from _norm(f"{at}.{name}", width, "vision", bias=True)
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _linear(f"{at}.self_attn.{name}", width, width, "vision", bias=True)
        yield from _linear(f"{at}.mlp.fc1", width, inner, "vision", bias=True)
        yield from _linear(f"{at}.mlp.fc2", inner, width, "vision", bias=True)
    yield from _norm(f"{root}.post_layernorm", width, "vision", bias=True)
    projector = "model.multi_modal_projector"
    yield Weight(projector, "mm_input_projection_weight", (width, whole(text, "hidden_size")), "vision")
    yield from _norm(f"{projector}.mm_soft_emb_norm", width, "vision")
