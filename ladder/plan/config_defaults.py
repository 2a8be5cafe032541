"""Values of transformers 5.17 for keys that a config.json leaves out, because it lists only values that differ."""

from typing import Any


def _defaults(vocabulary: int, width: int, inner: int, layers: int, queries: int, **more: Any) -> dict[str, Any]:
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    return dict(zip(names, (vocabulary, width, inner, layers, queries), strict=True)) | more


DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": _defaults(32000, 4096, 11008, 32, 32),
    "smollm3": _defaults(128256, 2048, 11008, 36, 16, num_key_value_heads=4, tie_word_embeddings=True),
    "gemma": _defaults(256000, 3072, 24576, 28, 16, num_key_value_heads=16, head_dim=256, tie_word_embeddings=True),
    "mistral": _defaults(32000, 4096, 14336, 32, 32, num_key_value_heads=8),
    "qwen2": _defaults(151936, 4096, 22016, 32, 32, num_key_value_heads=32),
    "qwen3": _defaults(151936, 4096, 22016, 32, 32, num_key_value_heads=32, head_dim=128),
    "gemma2": _defaults(256000, 2304, 9216, 26, 8, num_key_value_heads=4, head_dim=256, tie_word_embeddings=True),
    "gemma3_text": _defaults(262208, 2304, 9216, 26, 8, num_key_value_heads=4, head_dim=256, tie_word_embeddings=True),
    "phi3": _defaults(32064, 3072, 8192, 32, 32),
    "mixtral": _defaults(
        32000, 4096, 14336, 32, 32, num_key_value_heads=8, num_local_experts=8, num_experts_per_tok=2
    ),
    "qwen3_moe": _defaults(
        151936, 2048, 6144, 24, 32,
        num_key_value_heads=4, num_experts=128, num_experts_per_tok=8, moe_intermediate_size=768,
    ),
    "gpt_oss": _defaults(
        201088, 2880, 2880, 36, 64,
        num_key_value_heads=8, head_dim=64, num_local_experts=128, num_experts_per_tok=4,
    ),
    "siglip_vision_model": {
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "image_size": 224, "patch_size": 16,
    },
}  # fmt: skip
"""Defaults by model_type. A test compares them with transformers'."""
