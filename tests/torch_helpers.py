"""Helpers of tests that need torch: pico models on disk, and comparisons of weights."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from ladder.models.checkpoint import save_rung
from perf.pico import pico_model, pico_tokenizer
from stages import prune_layers


def save_base(directory: Path) -> Path:
    """Write models/base of a pico ladder."""
    tokenizer = pico_tokenizer()
    save_rung(directory, pico_model(tokenizer).to(torch.bfloat16), tokenizer, rung="base", method="base")
    return directory


def smaller(folder: Path, base: Path) -> Path:
    """Write models/prune_layers/small: the pico base without its second layer."""
    output = folder / "models/prune_layers/small"
    prune_layers.main(prune_layers.Params(parent="base", drop_layers=[1]), base, base, output, folder / "student.json")
    return output


def pico_encoder(directory: Path, words: list[str], *, layers: int) -> Path:
    """A random sentence encoder of these words, laid out as sentence-transformers does; it reads 16 tokens."""
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(directory)
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=len(vocabulary), num_hidden_layers=layers, **size)
    BertModel(config, add_pooling_layer=False).save_pretrained(directory)
    (directory / "1_Pooling").mkdir()
    (directory / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    (directory / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 16}))
    return directory


def moved(before: Path, after: Path, *, least: float) -> float:
    """Share of the layers' weights of size `least` or more that differ between two complete rungs; all are finite."""
    first, second = (load_file(directory / "model.safetensors") for directory in (before, after))
    assert all(weight.isfinite().all() for weight in second.values())
    large = [(first[name], second[name]) for name in first if "proj" in name]
    return torch.cat([(old != new)[old.abs() >= least] for old, new in large]).float().mean().item()
