"""Pico ladder for tests and soak tests: the whole pipeline on a random model of two layers, in its own folder."""

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from ruamel.yaml import YAML
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ladder.data.jsonl import Row, write_rows
from ladder.pipeline.links import write_links
from perf.repository import ROOT, copy_repository
from stages import punkt

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def pico_tokenizer(merges: Sequence[tuple[str, str]] = ()) -> PreTrainedTokenizerFast:
    """Build a byte-level tokenizer with ChatML's special tokens: 259 tokens, and one for each merge."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(one + two for one, two in merges)]
    backend = Tokenizer(models.BPE({token: number for number, token in enumerate(vocabulary)}, list(merges)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )
    tokenizer.chat_template = CHATML
    return tokenizer


def pico_model(
    tokenizer: PreTrainedTokenizerFast, *, seed: int = 0, layers: int = 2, head_dim: int = 8
) -> LlamaForCausalLM:
    """Build a random Llama with grouped-query attention, by default with two layers."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=head_dim,
        max_position_embeddings=4096,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    return LlamaForCausalLM(config)


def small(params: Row) -> None:
    """Edit params.yaml for a pico ladder: no download, one benchmark of four questions."""
    params["base"].update(source="data/raw/model", sha256=None, dtype="bfloat16")
    params["task"] = {"ifeval": {"source": "data/raw/quiz.jsonl"}}
    params["report"]["benchmarks"] = ["ifeval"]
    params["gate"]["tax"].update(against="base", allowed={"ifeval": 100})
    params["punkt"].update(source="data/raw/punkt_tab.zip", sha256=None)
    for name in ("rank4", "rank64", "dora", "qlora", "full"):
        del params["sft"][name]
    for name in ("arithmetic", "dare", "slerp"):
        del params["merge"][name]


def lay_out(root: Path, *edits: Callable[[Row], None]) -> None:
    """Lay out a repository with recipes/guide.yaml in the sizes of tests/pico.yaml, and run nothing.

    edits: further changes of its params.yaml.
    """
    environment = copy_repository(root)
    shutil.copy(ROOT / "recipes/guide.yaml", root / "params.yaml")
    tokenizer = pico_tokenizer()
    pico_model(tokenizer).save_pretrained(root / "data/raw/model")
    tokenizer.save_pretrained(root / "data/raw/model")
    asked = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    write_rows(root / "data/raw/quiz.jsonl", [{"key": n, "prompt": f"Quiz {n}?", **asked} for n in range(4)])
    with zipfile.ZipFile(root / "data/raw/punkt_tab.zip", "w") as packed:  # empty: no quiz question counts sentences
        for name in punkt.FILES:
            packed.writestr(zipfile.ZipInfo(f"punkt_tab/english/{name}"), "")  # without the time of this run
    recipe = [sys.executable, "-m", "ladder", "recipe", str(ROOT / "tests/pico.yaml")]
    subprocess.run(recipe, cwd=root, env=environment, check=True, stdout=subprocess.DEVNULL)
    yaml = YAML()
    params = yaml.load((root / "params.yaml").read_text(encoding="utf-8"))
    for edit in (small, *edits):
        edit(params)
    with (root / "params.yaml").open("w", encoding="utf-8") as stream:
        yaml.dump(params, stream)
    write_links(params, root / "links.yaml")
