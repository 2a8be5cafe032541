"""Weights and adapters, against transformers' models and peft's adapters on the meta device."""

import warnings

import pytest
import torch
from accelerate.utils import calculate_maximum_sizes
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from ladder.pipeline.errors import UserError
from ladder.plan.adapters import adapter
from ladder.plan.config_defaults import DEFAULTS
from ladder.plan.memory import weight_bytes
from ladder.plan.meta_device import from_meta_device
from ladder.plan.weights import FAMILIES, parameters, weights

SIZE = {
    "vocab_size": 320, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
SIGLIP = {
    "model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 2, "image_size": 28, "patch_size": 14, "vision_use_head": False,
}  # fmt: skip
CONFIGS = {
    "llama": {"attention_bias": True, "mlp_bias": True},
    "llama tied": {"model_type": "llama", "tie_word_embeddings": True, "head_dim": 8},
    "smollm3": {},
    "gemma": {},
    "mistral": {"head_dim": 24},
    "qwen2": {},
    "qwen3": {"head_dim": 32},
    "gemma2": {},
    "gemma3_text": {},
    "gemma3": {"text_config": {"model_type": "gemma3_text", **SIZE}, "vision_config": SIGLIP, "mm_tokens_per_image": 4},
    "phi3": {},
    "mixtral": {"num_local_experts": 4},
    "qwen3_moe": {"num_experts": 4, "moe_intermediate_size": 40, "mlp_only_layers": [1]},
    "gpt_oss": {"num_local_experts": 4, "head_dim": 16},
}


def config_of(name):
    return {"model_type": name, **({} if name == "gemma3" else SIZE), **CONFIGS[name]}


def meta_model(config):
    values = {key: value for key, value in config.items() if key != "model_type"}
    with torch.device("meta"), warnings.catch_warnings(action="ignore"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(config["model_type"], **values))


@pytest.mark.parametrize("name", CONFIGS)
def test_names_shapes_and_linear_layers_are_transformers(name):
    model, found = meta_model(config_of(name)), weights(config_of(name))
    expected = {key: tuple(value.shape) for key, value in model.named_parameters()}
    assert {f"{each.module}.{each.name}": each.shape for each in found if not each.tied} == expected
    assert parameters(found) == model.num_parameters()
    linear = {key for key, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    assert {each.module for each in found if each.linear} == linear


@pytest.mark.parametrize("name", ["llama tied", "qwen3_moe", "gemma3"])
def test_the_meta_device_gives_the_same_weights(name):
    def known(found):
        return {(each.module, each.name, each.shape, each.linear, each.tied) for each in found}

    assert known(from_meta_device(config_of(name))) == known(weights(config_of(name)))


def test_another_architecture_is_built_on_the_meta_device():
    config = {"model_type": "olmo2", **SIZE}
    assert parameters(weights(config)) == meta_model(config).num_parameters()
    with pytest.raises(UserError, match=r"config.json: model_type: .* got 'unheard_of'"):
        weights({"model_type": "unheard_of", **SIZE})


def test_a_size_of_another_type_is_refused():
    with pytest.raises(UserError, match="config.json: hidden_size: expected a whole number of at least 1, got '64'"):
        weights({"model_type": "llama", **SIZE, "hidden_size": "64"})


@pytest.mark.parametrize("kind", FAMILIES)
def test_defaults_are_those_of_transformers(kind):
    config = AutoConfig.for_model(kind)
    assert {key: getattr(config, key) for key in DEFAULTS[kind]} == DEFAULTS[kind]
    assert parameters(weights({"model_type": kind})) == meta_model({"model_type": kind}).num_parameters()


def test_bytes_are_those_of_accelerate_estimate_memory():
    model = meta_model(config_of("qwen3"))
    total, _ = calculate_maximum_sizes(model)
    found = weights(config_of("qwen3"))
    total -= sum(buffer.nbytes for buffer in model.buffers())  # rotary frequencies
    assert weight_bytes(found, "full") == total
    assert weight_bytes(found, "lora") == total / 2


ADAPTERS = [
    ("llama", {"r": 4, "target_modules": "all-linear"}),
    ("llama", {"r": 4, "target_modules": ["q_proj", "v_proj"], "use_dora": True}),
    ("llama tied", {"r": 8, "target_modules": "all-linear", "use_rslora": True, "modules_to_save": ["embed_tokens"]}),
    ("llama", {"r": 8, "target_modules": "all-linear", "modules_to_save": ["embed_tokens", "lm_head"]}),
    ("llama", {"r": 4, "target_modules": r".*self_attn\.(q|o)_proj", "lora_bias": True}),
    ("llama", {"r": 4, "target_modules": ["o_proj", "up_proj"], "rank_pattern": {"o_proj": 2}}),
    ("llama", {"r": 4, "target_modules": ["o_proj", "up_proj"], "layers_to_transform": [0, 2]}),
    ("llama", {"r": 4, "target_modules": ["o_proj"], "layers_to_transform": 1, "layers_pattern": "layers"}),
    ("llama", {"r": 4, "target_modules": ["o_proj"], "bias": "all"}),
    ("llama", {"r": 4, "target_modules": ["q_proj", "o_proj"], "bias": "lora_only"}),
    ("llama tied", {"r": 4, "target_modules": ["embed_tokens", "o_proj"], "use_dora": True}),
    ("llama", {"r": 4, "target_modules": ["embed_tokens", "lm_head", "o_proj"]}),
    ("llama", {"r": 4, "target_modules": "all-linear", "exclude_modules": ["o_proj"]}),
    ("llama", {"r": 4, "target_modules": ["o_proj"], "trainable_token_indices": [1, 2, 5]}),
    ("mixtral", {"r": 4, "target_modules": "all-linear"}),
    ("qwen3_moe", {"r": 4, "target_modules": "all-linear"}),
    ("qwen3_moe", {"r": 4, "target_modules": ["o_proj", "gate_proj", "up_proj"]}),
    ("gpt_oss", {"r": 4, "target_modules": "all-linear"}),
    ("gpt_oss", {"r": 4, "target_modules": ["o_proj"], "target_parameters": ["gate_up_proj", "down_proj"]}),
    ("phi3", {"r": 4, "target_modules": "all-linear", "use_dora": True}),
    ("gemma3", {"r": 4, "target_modules": "all-linear"}),
    ("gemma2", {"r": 4, "target_modules": "all-linear"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "settings"), ADAPTERS, ids=lambda value: str(value)[:60])
def test_trainable_parameters_are_those_of_peft(name, settings):
    with warnings.catch_warnings(action="ignore"):
        model = get_peft_model(meta_model(config_of(name)), LoraConfig(task_type="CAUSAL_LM", **settings))
    kind = config_of(name)["model_type"]
    assert adapter(weights(config_of(name)), settings, kind).trainable == model.get_nb_trainable_parameters()[0]


def test_targets_that_match_nothing_are_refused():
    with pytest.raises(UserError, match=r"lora.target_modules: no module matches \['query'\]; the model has down_proj"):
        adapter(weights(config_of("llama")), {"r": 4, "target_modules": ["query"]})
    with pytest.raises(UserError, match="lora.r: expected a whole number of at least 1, got 0"):
        adapter(weights(config_of("llama")), {"r": 0})
