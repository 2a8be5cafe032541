"""Calls of vLLM: its inputs, and the conversion of its tokens; test_vllm.py runs vLLM itself."""

import importlib.util
import json
import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model

from conftest import user
from ladder.inference import vllm_engine
from ladder.inference.local import engine_of
from ladder.inference.types import Sampling
from ladder.models.checkpoint import load, read_rung, save_rung
from ladder.pipeline.stage import UserError
from perf.pico import pico_model, pico_tokenizer

ASKED = [user(text) for text in ("Hi", "What is rain?", "Name a colour that is not red.")]


def test_sampling_is_converted_to_its_terms():
    greedy = {"temperature": 0.0, "top_p": 1.0, "max_tokens": 256, "seed": 3}
    ends = {"stop_token_ids": [2], "ignore_eos": True, "detokenize": False}
    assert vllm_engine.choosing(Sampling(), 2, 3) == greedy | ends
    drawn = {"temperature": 0.7, "top_p": 0.9, "max_tokens": 50, "seed": 105}
    assert vllm_engine.choosing(Sampling(0.7, 0.9, 50, 100), 7, 5) == drawn | ends | {"stop_token_ids": [7]}


def test_a_complete_rung_is_loaded_whole(base):
    settings = vllm_engine.loading(base, base, read_rung(base))
    assert settings == {"model": str(base), "dtype": "bfloat16", "seed": 0, "max_model_len": 4096}


@pytest.mark.parametrize(("rank", "most"), [(4, 8), (16, 16), (17, 32)])
def test_an_adapter_is_on_its_base(base, tmp_path, rank, most):
    directory = tmp_path / "adapter"
    rung = save_adapter(base, directory, rank)
    settings = vllm_engine.loading(directory, base, rung)
    assert settings == {"model": str(base), "dtype": "bfloat16", "seed": 0, "max_model_len": 4096,
                        "enable_lora": True, "max_lora_rank": most}  # fmt: skip
    save_rung(tmp_path / "other", pico_model(pico_tokenizer(), seed=1), pico_tokenizer(), rung="base", method="base")
    with pytest.raises(UserError, match="the adapter was trained on a different base"):
        vllm_engine.loading(directory, tmp_path / "other", rung)


@pytest.mark.parametrize(
    ("setting", "reported"),
    [({"use_dora": True}, "use_dora: True"), ({"alpha_pattern": {"q_proj": 2}}, "alpha_pattern: {'q_proj': 2}")],
)
def test_an_adapter_that_it_cannot_read_is_refused(base, tmp_path, setting, reported):
    rung = save_adapter(base, tmp_path / "adapter", 4, **setting)
    with pytest.raises(UserError, match=f"engine vllm: vLLM does not support {reported}. Merge it, or use"):
        vllm_engine.loading(tmp_path / "adapter", base, rung)


@pytest.mark.parametrize(
    ("setting", "reported"),
    [
        ({"target_modules": ["q_proj", "embed_tokens"]}, "the adapter changes model.embed_tokens"),
        ({"target_modules": ["q_proj", "lm_head"]}, "the adapter changes lm_head"),
        ({"target_modules": r".*(q_proj|lm_head)"}, "the adapter changes lm_head"),
        ({"modules_to_save": ["lm_head"]}, "vLLM does not support modules_to_save"),
        ({"trainable_token_indices": [5]}, "vLLM does not support trainable_token_indices"),
        ({"target_parameters": ["mlp.up_proj.weight"]}, "vLLM does not support target_parameters"),
        ({"bias": "all"}, "vLLM does not support bias: 'all'"),
        ({"rank_pattern": {"q_proj": 2}}, "vLLM does not support rank_pattern"),
    ],
)
def test_an_adapter_beyond_the_layers_linears_is_refused(base, tmp_path, setting, reported):
    rung = save_adapter(base, tmp_path / "adapter", 4, **setting)
    with pytest.raises(UserError, match=f"engine vllm: {reported}.*. Merge it, or use"):
        vllm_engine.loading(tmp_path / "adapter", base, rung)


def test_where_it_is_not_installed_it_is_refused(base):
    if importlib.util.find_spec("vllm"):
        pytest.skip("vLLM is installed here")
    with pytest.raises(UserError, match=r"engine vllm: vLLM is not installed. `make extra-gpu`"):
        vllm_engine.load(base, base)


@dataclass
class Params:
    """The used part of vllm.SamplingParams."""

    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    stop_token_ids: list[int]
    ignore_eos: bool
    detokenize: bool


def test_the_same_tokens_make_the_same_answers(base, monkeypatch):
    """transformers generates in place of vLLM from the same inputs: the answers equal those of the ladder's engine."""
    held = load(base, base, dtype=torch.float32)

    class Engine:
        def __init__(self, **settings):
            assert settings["model"] == str(base)

        def generate(self, prompts, *, sampling_params, lora_request, use_tqdm):
            assert (lora_request, use_tqdm) == (None, False)
            pairs = zip(prompts, sampling_params, strict=True)
            return [self.one(torch.tensor([prompt["prompt_token_ids"]]), asked) for prompt, asked in pairs]

        def one(self, ids, asked):
            out = held.model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=asked.temperature > 0,
                max_new_tokens=asked.max_tokens, eos_token_id=asked.stop_token_ids,
            )  # fmt: skip
            return SimpleNamespace(outputs=[SimpleNamespace(token_ids=tuple(out[0, ids.shape[1] :].tolist()))])

    engine, lora, request = ModuleType("vllm"), ModuleType("vllm.lora"), ModuleType("vllm.lora.request")
    engine.LLM, engine.SamplingParams, request.LoRARequest = Engine, Params, None
    engine.__spec__ = SimpleNamespace()
    for name, module in {"vllm": engine, "vllm.lora": lora, "vllm.lora.request": request}.items():
        monkeypatch.setitem(sys.modules, name, module)
    loaded = vllm_engine.load(base, base)
    found = loaded.generate(ASKED, Sampling(max_new_tokens=40))
    assert found == engine_of(held).generate(ASKED, Sampling(max_new_tokens=40))
    assert {one.finished for one in found} == {True, False}
    with pytest.raises(UserError, match="prompt 0: 5019 tokens, expected fewer than the model's 4096"):
        loaded.generate([user("a" * 5000)], Sampling())


def save_adapter(base, directory, rank, **setting):
    model = get_peft_model(load(base, base).model, LoraConfig(**{"r": rank, "target_modules": ["q_proj"], **setting}))
    parent = read_rung(base)
    save_rung(directory, model, pico_tokenizer(), rung="sft/a", method="sft", parents={"base": parent}, base=parent)
    assert json.loads((directory / "adapter_config.json").read_text())["r"] == rank
    return read_rung(directory)
