"""A GGUF file read by transformers' own loader has the rung's weights, tokens and chat template."""

import json

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Tokenizer
from transformers.convert_slow_tokenizer import TikTokenConverter

from ladder.models.gguf import load_model, load_tokenizer
from ladder.pipeline.stage import UserError
from ladder.ship.export import export
from ladder.ship.gguf_file import pre_tokenizer, write_gguf
from perf.pico import pico_model, pico_tokenizer

TEXTS = [
    "abc abcc",
    "Zoë says , naïvely :\n\n    return 4  # 100% .",
    "<|im_start|>user\nHi<|im_end|>\n",
    "日本語 🙂 17 + 26",
]


def test_weights_are_read_back_by_transformers(repository, tmp_path):
    export("sft/words", tmp_path / "merged", verify=False)
    made = export("sft/words", tmp_path / "out", "gguf", gguf_type="f32")
    file = tmp_path / "out/sft-words-f32.gguf"
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    read = load_model(file, torch.float32)
    expected, found = merged.state_dict(), read.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    for key in ("num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings", "rope_parameters"):
        assert getattr(read.config, key) == getattr(merged.config, key)
    assert read.config.rms_norm_eps == pytest.approx(merged.config.rms_norm_eps, rel=1e-6)
    assert made.agreement["equal_tokens"] == made.agreement["tokens"] and made.agreement["equal_prompts"] is None


def test_the_tokenizer_is_read_back_by_transformers(tmp_path):
    tokenizer = pico_tokenizer([("a", "b"), ("ab", "c"), ("Ġ", "ab")])
    write_gguf(tmp_path / "a.gguf", pico_model(tokenizer), tokenizer, "sft/a", "f16")
    back = load_tokenizer(tmp_path / "a.gguf")
    assert [back(text).input_ids for text in TEXTS] == [tokenizer(text).input_ids for text in TEXTS]
    assert len(back(TEXTS[0]).input_ids) == 4  # abc, the merged beginning of the second word, c, c
    assert back.chat_template == tokenizer.chat_template


def fields(path):
    reader = gguf.GGUFReader(path)
    return reader, {name: field.contents() for name, field in reader.fields.items()}


def test_the_header_names_stop_token_pre_tokenizer_and_type(tmp_path):
    tokenizer = pico_tokenizer()
    write_gguf(tmp_path / "a.gguf", pico_model(tokenizer), tokenizer, "sft/a", "f16")
    reader, header = fields(tmp_path / "a.gguf")
    assert header["tokenizer.ggml.eos_token_id"] == 2 and header["tokenizer.ggml.bos_token_id"] == 1
    assert header["tokenizer.ggml.pre"] == "gpt-2" and header["tokenizer.ggml.add_bos_token"] is False
    assert header["general.architecture"] == "llama" and header["general.name"] == "sft/a"
    types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert types["blk.0.attn_q.weight"] == "F16" and types["blk.0.attn_norm.weight"] == "F32"
    assert "output.weight" not in types  # tied embeddings


def test_q8_0_has_blocks_of_32_weights_with_one_scale(tmp_path):
    tokenizer = pico_tokenizer()
    model = pico_model(tokenizer)
    write_gguf(tmp_path / "a.gguf", model, tokenizer, "sft/a", "q8_0")
    weight = model.model.layers[1].mlp.down_proj.weight.detach().numpy()
    read = load_model(tmp_path / "a.gguf", torch.float32).model.layers[1].mlp.down_proj.weight.detach().numpy()
    blocks = weight.reshape(-1, 32)
    scale = (np.abs(blocks).max(1, keepdims=True) / 127).astype(np.float32)
    expected = np.round(blocks / scale) * scale.astype(np.float16).astype(np.float32)  # d = amax / 127, stored as f16
    np.testing.assert_allclose(read, expected.reshape(weight.shape), atol=1e-7)


def test_untied_embeddings_have_an_output_tensor(tmp_path):
    tokenizer = pico_tokenizer()
    model = pico_model(tokenizer)
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight + 1)
    write_gguf(tmp_path / "a.gguf", model, tokenizer, "sft/a", "f32")
    read = load_model(tmp_path / "a.gguf", torch.float32)
    assert torch.equal(read.lm_head.weight, model.lm_head.weight)
    assert torch.equal(read.model.embed_tokens.weight, model.model.embed_tokens.weight)


def byte_level(regex=True):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": regex}


def tokenizer_json(*steps, **model):
    found = steps[0] if len(steps) == 1 else {"type": "Sequence", "pretokenizers": list(steps)}
    return {"pre_tokenizer": found, "normalizer": None, "model": {"type": "BPE", **model}}


def test_the_pre_tokenizers_are_those_that_transformers_writes():
    qwen2 = json.loads(Qwen2Tokenizer(vocab={}, merges=[]).backend_tokenizer.to_str())
    assert pre_tokenizer({**qwen2, "model": {"type": "BPE"}}) == "qwen2"
    pattern = {"Regex": TikTokenConverter().pattern}  # of Llama 3
    split = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    assert pre_tokenizer(tokenizer_json(split, byte_level(False), ignore_merges=True)) == "llama-bpe"
    digits = {"type": "Digits", "individual_digits": True}
    assert pre_tokenizer(tokenizer_json(digits, byte_level())) == "smollm"
    assert pre_tokenizer(tokenizer_json(byte_level())) == "gpt-2"


@pytest.mark.parametrize(
    "tokenizer",
    [
        tokenizer_json({"type": "Metaspace", "replacement": "▁"}),
        tokenizer_json(byte_level(), ignore_merges=True),
        {**tokenizer_json(byte_level()), "normalizer": {"type": "NFC"}},
        {**tokenizer_json(byte_level()), "model": {"type": "Unigram"}},
    ],
)
def test_other_tokenizers_are_refused(tokenizer):
    with pytest.raises(UserError, match="tokenizer.json: expected"):
        pre_tokenizer(tokenizer)
