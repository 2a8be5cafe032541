"""FLOPs against PyTorch's counter, and rates against their measurements."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from ladder.pipeline.errors import UserError
from ladder.plan.adapters import adapter
from ladder.plan.compute import forward_flops, generation_time, training_flops, training_time
from ladder.plan.published import MODELS
from ladder.plan.weights import weights

LLAMA = MODELS["Llama-3.1-8B"]


def test_forward_flops_are_those_that_pytorch_counts():
    config = {
        "vocab_size": 320, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2,
    }  # fmt: skip
    model = LlamaForCausalLM(LlamaConfig(**config, attn_implementation="eager"))
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 32, dtype=torch.long), use_cache=False)
    found = weights({"model_type": "llama", **config})
    products, attention = forward_flops({"model_type": "llama", **config}, found, 32)
    angles = 2 * 32 * 8  # positions times 8 frequencies, once a row
    # PyTorch counts all of attention; a causal kernel computes half
    assert counter.get_total_flops() == 32 * (products + 2 * attention) + angles


def test_factors_of_training():
    found = weights(LLAMA.config)
    made = adapter(found, {"r": 16})
    products, attention = forward_flops(LLAMA.config, found, 750)
    assert products == 2 * (LLAMA.parameters - 128256 * 4096 - 65 * 4096)  # no input embedding, no norms
    assert attention == 2 * 750 * 4096 * 32
    assert training_flops(LLAMA.config, found, None, 750) == 3 * (products + attention)
    lora = training_flops(LLAMA.config, found, made, 750)
    assert lora == 2 * products + 3 * attention + 6 * 41_943_040
    assert training_flops(LLAMA.config, found, made, 750, checkpointing=True) == lora + products + attention


def test_of_experts_only_those_that_a_token_passes_count():
    model = MODELS["Mixtral-8x7B"]
    products, _ = forward_flops(model.config, weights(model.config), 1)
    # 12.9B of 46.7B parameters are active (Jiang et al. 2024), the embedding among them
    assert products / 2 + 32000 * 4096 == pytest.approx(12.88e9, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "method", "packed", "tokens_per_second"),
    [
        ("Llama-3.1-8B", "lora", False, 4441), ("Llama-3.1-8B", "lora", True, 11118),
        ("SmolLM2-135M", "full", False, 56710), ("SmolLM2-135M", "full", True, 156869),
    ],
)  # fmt: skip
def test_a_measured_rate_comes_back(name, method, packed, tokens_per_second):
    config = MODELS[name].config
    found = weights(config)
    made = None if method == "full" else adapter(found, {"r": 16})
    flops = training_flops(config, found, made, 750) * 1e6
    time = training_time(flops, MODELS[name].parameters, method, "h200", packed=packed)
    assert 1e6 / time.seconds == pytest.approx(tokens_per_second, rel=0.02)
    assert time.measured


def test_other_gpus_are_scaled_by_published_peaks():
    slow, fast = (training_time(1e18, 8e9, "lora", name, packed=True) for name in ("a100-80", "h200"))
    assert slow.seconds / fast.seconds == pytest.approx(989 / 312)
    assert fast.measured and not slow.measured
    with pytest.raises(UserError, match="--gpu: expected one of h200, .*cpu, got 'h300'"):
        training_time(1e18, 8e9, "lora", "h300", packed=True)


def test_generation_at_8b_is_the_measured_share_of_the_floor():
    found = weights(LLAMA.config)
    time = generation_time(LLAMA.config, found, 512, 115, 400, "h200")
    step = 2 * LLAMA.parameters + 512 * (115 + 200) * 131072
    assert time.seconds == pytest.approx(400 * step / 4.3e12 / 0.257)
