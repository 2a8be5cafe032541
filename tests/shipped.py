"""A repository of pico rungs for the tests of ladder.ship: a float32 base, an adapter, a QLoRA adapter."""

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model

from ladder.models.checkpoint import read_rung, rounded, save_rung
from perf.pico import pico_model, pico_tokenizer

NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16"}
RANK, ALPHA = 4, 8


def save_adapter(root: Path, name: str, quantization: dict | None = None) -> None:
    """Write models/NAME: a LoRA with random weights on models/base."""
    tokenizer = pico_tokenizer()
    base = root / "models/base"
    whole = pico_model(tokenizer) if quantization is None else rounded(base, quantization).float()
    model = get_peft_model(whole, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear"))
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.copy_(0.1 * torch.randn_like(weight))
    rung, folder = read_rung(base), root / "models" / name
    settings = {"parent": "base", "data": "problems/words", "lora": {"r": RANK, "lora_alpha": ALPHA}}
    save_rung(
        folder, model, tokenizer, rung=name, method="sft", parents={"base": rung}, base=rung,
        quantization=quantization, settings=settings,
    )  # fmt: skip


def save_repository(root: Path) -> Path:
    """Write models/base, models/sft/words and models/sft/rounded."""
    tokenizer = pico_tokenizer()
    settings = {"source": "hub:org/pico@0123abc", "dtype": "float32"}
    save_rung(root / "models/base", pico_model(tokenizer), tokenizer, rung="base", method="base", settings=settings)
    save_adapter(root, "sft/words")
    save_adapter(root, "sft/rounded", NF4)
    return root
