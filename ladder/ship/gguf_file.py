"""Write a Llama as a GGUF file, llama.cpp's format, with its tokenizer and chat template.

No package that is installed from an index has llama.cpp's own converter. This module writes one architecture, with the
names, layouts and quantizations of the package `gguf`, and refuses every model that it cannot write exactly. The layout
is the one of `LlamaModel` in llama.cpp's conversion/llama.py.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ladder.pipeline.errors import UserError

TYPES = {
    "f32": (Type.F32, gguf.LlamaFileType.ALL_F32),
    "f16": (Type.F16, gguf.LlamaFileType.MOSTLY_F16),
    "bf16": (Type.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    "q8_0": (Type.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}
"""Types of matrices that llama.cpp's own converter writes too. Vectors are always float32."""
ADVICE = "Export it as merged, and convert the folder with llama.cpp's convert_hf_to_gguf.py"
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""Regular expression of the pre-tokenizers of Llama 3 and Qwen2, which differ in the part for digits."""
GPT2, DIGITS = ("ByteLevel", True), ("Digits", True)
PRE_TOKENIZERS: dict[tuple[Any, ...], str] = {
    (GPT2,): "gpt-2",
    (DIGITS, GPT2): "smollm",
    (("Split", WORDS % r"\p{N}{1,3}"), ("ByteLevel", False)): "llama-bpe",
    (("Split", WORDS % r"\p{N}"), ("ByteLevel", False)): "qwen2",
}
"""llama.cpp's names (`tokenizer.ggml.pre`) of the steps of tokenizer.json's pre_tokenizer."""


def write_gguf(path: Path, model: Any, tokenizer: PreTrainedTokenizerBase, name: str, kind: str) -> None:
    """Write a complete model to `path`. kind: a key of TYPES.

    A matrix whose rows are not a multiple of the block of `q8_0` (32 weights) is written as float16, as in llama.cpp.
    Errors: UserError for an architecture, a rotary scaling or a tokenizer that this module does not write.
    """
    config = model.config
    _check_model(config)
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.LLAMA])
    writer.add_name(name)
    writer.add_file_type(TYPES[kind][1])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _add_sizes(writer, config)
    _add_tokenizer(writer, tokenizer, config.vocab_size)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for source, weight in model.state_dict().items():
        if source == "lm_head.weight" and config.tie_word_embeddings:
            continue  # llama.cpp and transformers take the embedding instead
        target = names.get_name(source, try_suffixes=(".weight",))
        if target is None:
            raise UserError(f"--as: {name}: GGUF has no tensor for {source}. {ADVICE}.")
        values = _interleaved(source, weight, config).detach().float().cpu().numpy()
        array, stored = _stored(values, TYPES[kind][0])
        writer.add_tensor(target, array, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _check_model(config: Any) -> None:
    rope = getattr(config, "rope_parameters", None) or {}
    wanted = {
        "model_type": (config.model_type, "llama"),
        "hidden_act": (getattr(config, "hidden_act", None), "silu"),
        "attention_bias": (getattr(config, "attention_bias", False), False),
        "mlp_bias": (getattr(config, "mlp_bias", False), False),
        "rope_parameters.rope_type": (rope.get("rope_type", "default"), "default"),
    }
    for key, (found, expected) in wanted.items():
        if found != expected:
            raise UserError(f"--as gguf: config.json: {key}: expected {expected}, got {found}. {ADVICE}.")


def _add_sizes(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    head = config.head_dim or config.hidden_size // config.num_attention_heads
    writer.add_rope_dimension_count(head)
    writer.add_key_length(head)
    writer.add_value_length(head)


def _interleaved(source: str, weight: Tensor, config: Any) -> Tensor:
    """Reorder the rows of q and k: transformers rotates two halves of a head, GGUF's `llama` adjacent pairs.

    Shape: [heads * head_dim, hidden], before and after.
    """
    if source.endswith("q_proj.weight"):
        heads = config.num_attention_heads
    elif source.endswith("k_proj.weight"):
        heads = config.num_key_value_heads
    else:
        return weight
    rows, hidden = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, hidden).swapaxes(1, 2).reshape(rows, hidden)


def _stored(values: np.ndarray, kind: Type) -> tuple[np.ndarray, Type]:
    if values.ndim == 1:
        return values, Type.F32
    if kind is Type.Q8_0 and values.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0]:
        kind = Type.F16
    return gguf.quants.quantize(values, kind), kind


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> None:
    """Write tokens, merges, special tokens and chat template. vocabulary: rows of the embedding."""
    backend: Any = tokenizer.backend_tokenizer
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer(json.loads(backend.to_str())))
    added = tokenizer.added_tokens_decoder
    texts = {number: text for text, number in tokenizer.get_vocab().items()}
    tokens, kinds = [], []
    for number in range(vocabulary):
        if number not in texts:
            tokens.append(f"[PAD{number}]")  # rows of the embedding without a token, named as in llama.cpp
            kinds.append(gguf.TokenType.UNUSED)
            continue
        tokens.append(texts[number])
        special = added[number].special if number in added else None
        kinds.append(
            gguf.TokenType.NORMAL
            if special is None
            else gguf.TokenType.CONTROL if special else gguf.TokenType.USER_DEFINED
        )  # fmt: skip
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        special_vocabulary = gguf.SpecialVocab(folder, load_merges=True)
    starts = list(tokenizer("a").input_ids)[:1] == [tokenizer.bos_token_id]
    special_vocabulary.add_special_token["bos"] = starts
    special_vocabulary.add_to_gguf(writer, quiet=True)


def pre_tokenizer(tokenizer: dict[str, Any]) -> str:
    """Return llama.cpp's name for the pre-tokenizer of tokenizer.json. Errors: UserError for one that is not here."""
    found = tokenizer.get("pre_tokenizer") or {}
    steps = tuple(_step(one) for one in found.get("pretokenizers", [found]))
    name = PRE_TOKENIZERS.get(steps)
    model = tokenizer["model"]
    if name is None or model["type"] != "BPE" or bool(model.get("ignore_merges")) != (name == "llama-bpe"):
        known = ", ".join(PRE_TOKENIZERS.values())
        raise UserError(f"--as gguf: tokenizer.json: expected the pre-tokenizer of {known}, got another. {ADVICE}.")
    normalizer = tokenizer.get("normalizer") or {"normalizers": []}
    if normalizer.get("normalizers", [normalizer]) and name != "qwen2":  # llama.cpp leaves out Qwen2's NFC
        raise UserError(f"--as gguf: tokenizer.json: expected no normalizer, got {normalizer['type']}. {ADVICE}.")
    return name


def _step(step: dict[str, Any]) -> tuple[Any, ...]:
    match step:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": regex}:
            return "ByteLevel", regex
        case {"type": "Digits", "individual_digits": each}:
            return "Digits", each
        case {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}:
            return "Split", pattern
    return (step.get("type"),)
