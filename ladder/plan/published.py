"""Configurations of released models, so that a plan needs no hub: the values of each repository's config.json.

Source: config.json of the named repository on huggingface.co, read by hand. `parameters` is the number that the hub
shows for the repository's safetensors files; a test compares it with the count of ladder/plan/weights.py.
"""

import difflib
import re
from typing import Any, NamedTuple

from ladder.pipeline.errors import UserError


class Published(NamedTuple):
    """A released model."""

    repository: str
    parameters: int
    """Parameters in the released safetensors files, tied matrices counted once."""
    config: dict[str, Any]


def _model(
    repository: str, parameters: int, kind: str, vocabulary: int, width: int, inner: int, layers: int, heads: str,
    **more: Any,
) -> Published:  # fmt: skip
    queries, keys, head = map(int, heads.split("/"))
    return Published(repository, parameters, {
        "model_type": kind, "vocab_size": vocabulary, "hidden_size": width, "intermediate_size": inner,
        "num_hidden_layers": layers, "num_attention_heads": queries, "num_key_value_heads": keys, "head_dim": head,
        "tie_word_embeddings": False, **more,
    })  # fmt: skip


TIED: dict[str, Any] = {"tie_word_embeddings": True}
SIGLIP = {
    "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
    "num_attention_heads": 16, "image_size": 896, "patch_size": 14, "vision_use_head": False,
}  # fmt: skip
GEMMA_3_4B = _model(
    "google/gemma-3-4b-it", 4_300_079_472, "gemma3_text", 262208, 2560, 10240, 34, "8/4/256", **TIED,
    sliding_window=1024, sliding_window_pattern=6,
)  # fmt: skip

MODELS: dict[str, Published] = {
    "SmolLM2-135M": _model(
        "HuggingFaceTB/SmolLM2-135M-Instruct", 134_515_008, "llama", 49152, 576, 1536, 30, "9/3/64", **TIED
    ),
    "SmolLM2-360M": _model(
        "HuggingFaceTB/SmolLM2-360M-Instruct", 361_821_120, "llama", 49152, 960, 2560, 32, "15/5/64", **TIED
    ),
    "SmolLM2-1.7B": _model(
        "HuggingFaceTB/SmolLM2-1.7B-Instruct", 1_711_376_384, "llama", 49152, 2048, 8192, 24, "32/32/64", **TIED
    ),
    "SmolLM3-3B": _model(
        "HuggingFaceTB/SmolLM3-3B", 3_075_098_624, "smollm3", 128256, 2048, 11008, 36, "16/4/128", **TIED
    ),
    "Llama-3.2-1B": _model(
        "meta-llama/Llama-3.2-1B-Instruct", 1_235_814_400, "llama", 128256, 2048, 8192, 16, "32/8/64", **TIED
    ),
    "Llama-3.2-3B": _model(
        "meta-llama/Llama-3.2-3B-Instruct", 3_212_749_824, "llama", 128256, 3072, 8192, 28, "24/8/128", **TIED
    ),
    "Llama-3.1-8B": _model(
        "meta-llama/Llama-3.1-8B-Instruct", 8_030_261_248, "llama", 128256, 4096, 14336, 32, "32/8/128"
    ),
    "Llama-3.3-70B": _model(
        "meta-llama/Llama-3.3-70B-Instruct", 70_553_706_496, "llama", 128256, 8192, 28672, 80, "64/8/128"
    ),
    "Qwen2.5-0.5B": _model(
        "Qwen/Qwen2.5-0.5B-Instruct", 494_032_768, "qwen2", 151936, 896, 4864, 24, "14/2/64", **TIED
    ),
    "Qwen2.5-1.5B": _model(
        "Qwen/Qwen2.5-1.5B-Instruct", 1_543_714_304, "qwen2", 151936, 1536, 8960, 28, "12/2/128", **TIED
    ),
    "Qwen2.5-7B": _model("Qwen/Qwen2.5-7B-Instruct", 7_615_616_512, "qwen2", 152064, 3584, 18944, 28, "28/4/128"),
    "Qwen3-0.6B": _model("Qwen/Qwen3-0.6B", 596_049_920, "qwen3", 151936, 1024, 3072, 28, "16/8/128", **TIED),
    "Qwen3-4B": _model("Qwen/Qwen3-4B", 4_022_468_096, "qwen3", 151936, 2560, 9728, 36, "32/8/128", **TIED),
    "Qwen3-8B": _model("Qwen/Qwen3-8B", 8_190_735_360, "qwen3", 151936, 4096, 12288, 36, "32/8/128"),
    "Qwen3-30B-A3B": _model(
        "Qwen/Qwen3-30B-A3B", 30_532_122_624, "qwen3_moe", 151936, 2048, 6144, 48, "32/4/128",
        num_experts=128, num_experts_per_tok=8, moe_intermediate_size=768,
    ),
    "gemma-2-2b": _model(
        "google/gemma-2-2b-it", 2_614_341_888, "gemma2", 256000, 2304, 9216, 26, "8/4/256", **TIED, sliding_window=4096
    ),
    "gemma-3-1b": _model(
        "google/gemma-3-1b-it", 999_885_952, "gemma3_text", 262144, 1152, 6912, 26, "4/1/256", **TIED,
        sliding_window=512, sliding_window_pattern=6,
    ),
    "gemma-3-4b": GEMMA_3_4B._replace(
        config={"model_type": "gemma3", "text_config": GEMMA_3_4B.config, "vision_config": SIGLIP}
    ),
    "Mistral-7B-v0.1": _model(
        "mistralai/Mistral-7B-v0.1", 7_241_732_096, "mistral", 32000, 4096, 14336, 32, "32/8/128", sliding_window=4096
    ),
    "Mistral-7B-v0.3": _model(
        "mistralai/Mistral-7B-Instruct-v0.3", 7_248_023_552, "mistral", 32768, 4096, 14336, 32, "32/8/128"
    ),
    "Mixtral-8x7B": _model(
        "mistralai/Mixtral-8x7B-Instruct-v0.1", 46_702_792_704, "mixtral", 32000, 4096, 14336, 32, "32/8/128",
        num_local_experts=8, num_experts_per_tok=2,
    ),
    "Phi-3-mini": _model(
        "microsoft/Phi-3-mini-4k-instruct", 3_821_079_552, "phi3", 32064, 3072, 8192, 32, "32/32/96"
    ),
    "phi-4": _model("microsoft/phi-4", 14_659_507_200, "phi3", 100352, 5120, 17920, 40, "40/10/128"),
    "gpt-oss-20b": _model(
        "openai/gpt-oss-20b", 20_914_757_184, "gpt_oss", 201088, 2880, 2880, 24, "64/8/64",
        num_local_experts=32, num_experts_per_tok=4, attention_bias=True, sliding_window=128, sliding_window_pattern=2,
    ),
}  # fmt: skip
VARIANT = re.compile(
    r"[-_.](instruct|it|base|chat|hf|v0\.[12]|4k-instruct|instruct-v0\.1|instruct-v0\.3)$", re.IGNORECASE
)


def find(name: str) -> Published | None:
    """Return the model of a name or hub repository, with or without `-Instruct` and the like; None if unknown."""
    words = name.rsplit("/", 1)[-1].lower()
    known = {key.lower(): key for key in MODELS} | {
        model.repository.rsplit("/", 1)[-1].lower(): key for key, model in MODELS.items()
    }
    while words not in known and (shorter := VARIANT.sub("", words)) != words:
        words = shorter
    return MODELS[known[words]] if words in known else None


def named(name: str) -> Published:
    """Return the model of a name. Errors: UserError that lists the known names."""
    found = find(name)
    if found is None:
        near = difflib.get_close_matches(name, list(MODELS), n=1, cutoff=0.5)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise UserError(
            f"--model {name}: no such folder, file or built-in configuration{hint}; expected a folder with "
            f"config.json, a .gguf file, hub:ORG/NAME@COMMIT, or one of {', '.join(MODELS)}"
        )
    return found
