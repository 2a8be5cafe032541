"""Peak memory against measured peaks, and parts worked by hand."""

import pytest

from ladder.pipeline.errors import UserError
from ladder.plan.adapters import adapter
from ladder.plan.memory import NF4_BITS, Step, cache_bytes, memory, weight_bytes
from ladder.plan.published import MODELS
from ladder.plan.weights import completed, weights

FULL = {"full_logits": True, "checkpointing": True}
PAGED = {"optimizer": "paged_adamw_8bit"}
MEASURED = [
    # H200, rows padded (key heads repeated), AdamW, torch.cuda.max_memory_allocated
    ("Llama-3.2-1B", "full", {"tokens": 8192}, 38.20),
    ("Llama-3.2-1B", "full", {"tokens": 4096, "checkpointing": True}, 21.00),
    ("Llama-3.2-1B", "lora", {"tokens": 8192}, 19.73),
    ("Llama-3.2-1B", "dora", {"tokens": 8192}, 32.49),
    ("Llama-3.1-8B", "lora", {"tokens": 8192}, 78.59),
    ("Llama-3.1-8B", "dora", {"tokens": 4096}, 70.57),
    ("Llama-3.1-8B", "lora", {"tokens": 8192, "checkpointing": True}, 21.80),
    ("Llama-3.1-8B", "dora", {"tokens": 8192, "checkpointing": True}, 23.76),
    # H200, through the stage sft: 6 rows of 2,048 packed tokens; that PyTorch repeated the key heads
    ("Llama-3.1-8B", "lora", {"tokens": 12288}, 109),
    ("Llama-3.1-8B", "lora", {"tokens": 12288, "liger": True}, 91),
    ("Llama-3.1-8B", "lora", {"tokens": 12288, "liger": True, "cast": False}, 77),
    # H200, through the stage dpo: 32 pairs, the longest row has 962 tokens
    ("Llama-3.2-1B", "lora", {"tokens": 64 * 962}, 130),
    # H100, one row of 2,048 tokens, gradient checkpointing, logits in one piece
    ("Llama-3.1-8B", "lora", {"tokens": 2048, **FULL}, 20.4),
    ("Llama-3.1-8B", "qlora", {"tokens": 2048, **FULL, **PAGED}, 9.8),
    ("Llama-3.2-1B", "lora", {"tokens": 2048, **FULL}, 6.0),
    ("Llama-3.2-1B", "qlora", {"tokens": 2048, **FULL, **PAGED}, 4.5),
]


@pytest.mark.parametrize(("name", "method", "settings", "gigabytes"), MEASURED, ids=lambda value: str(value)[:50])
def test_the_peak_is_within_ten_percent_of_a_measured_one(name, method, settings, gigabytes):
    config = MODELS[name].config
    found = weights(config)
    made = None if method == "full" else adapter(found, {"r": 16, "use_dora": method == "dora"})
    peak = memory(config, found, Step(method=method, **settings), made).peak
    assert peak / 1e9 == pytest.approx(gigabytes, rel=0.1)


def test_parts_of_lora_on_8b_by_hand():
    config = MODELS["Llama-3.1-8B"].config
    found = weights(config)
    parts = memory(config, found, Step(tokens=1024, packed=True), adapter(found, {"r": 16}))
    assert parts.weights == 2 * 8_030_261_248
    assert parts.gradients == 4 * 41_943_040
    assert parts.optimizer == 8 * 41_943_040
    layer = (
        2 * 4 * 4096  # two norms keep their float32 input
        + 2 * (4096 + 1024 + 1024 + 4096)  # q, k, v and the output of attention
        + 2 * 3 * 14336  # gate, up and the activated gate
        + 2 * (3 * 4096 + 4096 + 2 * 4096 + 14336)  # a copy of the input of each adapted layer
        + 2 * 16 * 7  # the low-rank products
    )
    assert parts.activations == 1024 * (32 * layer + 6 * 4096)
    assert parts.reference == 0


def test_nf4_with_double_quantization():
    assert pytest.approx(4.127, abs=5e-4) == NF4_BITS
    found = weights(MODELS["Llama-3.1-8B"].config)
    linear = 32 * (2 * (4096 * 4096 + 4096 * 1024) + 3 * 4096 * 14336)
    assert weight_bytes(found, "qlora") == pytest.approx(linear * 4.127 / 8 + 2 * (8_030_261_248 - linear), rel=1e-4)


def test_eight_bit_states_take_a_quarter():
    config = MODELS["SmolLM2-135M"].config
    found = weights(config)
    states = [
        memory(config, found, Step(512, method="full", optimizer=name), None).optimizer
        for name in ("adamw", "adamw_8bit")
    ]
    assert states[0] == 8 * 134_515_008
    assert states[1] == pytest.approx(states[0] / 4, rel=0.02)
    with pytest.raises(UserError, match="optimizer: expected one of adamw, adamw_8bit, .* got 'lion'"):
        memory(config, found, Step(512, optimizer="lion"), None)


def test_cache_of_a_row():
    llama = completed(MODELS["Llama-3.1-8B"].config)
    assert cache_bytes(llama, 1000) == 1000 * 2 * 32 * 8 * 128 * 2
    gemma = completed(MODELS["gemma-3-1b"].config)  # of 26 layers every sixth is full, the others see 512 tokens
    assert cache_bytes(gemma, 2048) == 2 * 2 * 256 * (4 * 2048 + 22 * 512)
