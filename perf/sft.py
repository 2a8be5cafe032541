"""Cost of a training step: LoRA, DoRA (peft's and factored), QLoRA; padded and packed rows.

    python -m perf.sft MODEL [--rank 16] [--rows 4] [--longest 256] [--steps 3] [--threads 1]

A step is forward and backward on the same rows of random tokens, without an optimizer. Three quarters of the rows are
short, as in chat. Tokens are counted without padding. The median step is reported: on CUDA its seconds and peak memory,
elsewhere its CPU seconds, which vary less on a shared machine.
"""

import argparse
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedConfig
from transformers.utils.logging import disable_progress_bar
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from ladder.models.lora import factor_dora
from ladder.models.packed_attention import attend_packed

disable_progress_bar()
NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16"}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
Batch = dict[str, Any]
clock = time.perf_counter if DEVICE == "cuda" else time.process_time


def batch(config: PreTrainedConfig, rows: int, longest: int, *, packed: bool) -> Batch:
    """Build rows of random tokens: a quarter of them have `longest` tokens, the others a quarter of that."""
    torch.manual_seed(0)
    lengths = [longest if n % 4 == 0 else longest // 4 for n in range(rows)]
    examples = [{"input_ids": torch.randint(0, config.vocab_size, (length,)).tolist()} for length in lengths]
    made = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=packed)(examples)
    return {name: value.to(DEVICE) if isinstance(value, torch.Tensor) else value for name, value in made.items()}


def measure(model: Any, inputs: Batch, steps: int) -> tuple[float, float]:
    """Return seconds of the median step and peak GB (0 on a CPU). The first step is a warm-up and not counted."""
    model.train()
    seconds = []
    for _ in range(steps + 1):
        if DEVICE == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        started = clock()
        with torch.autocast(DEVICE, dtype=torch.bfloat16):
            model(**inputs, use_cache=False).loss.backward()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        seconds.append(clock() - started)
        model.zero_grad()
    return median(seconds[1:]), torch.cuda.max_memory_allocated() / 1e9 if DEVICE == "cuda" else 0.0


def adapted(directory: Path, rank: int, *, dora: bool = False, quantized: bool = False) -> Any:
    """Load the model with a new adapter on all its linear layers."""
    quantization = BitsAndBytesConfig(**NF4) if quantized else None
    attention = "sdpa" if DEVICE == "cuda" else "eager"
    model: Any = AutoModelForCausalLM.from_pretrained(
        directory,
        trust_remote_code=False,
        dtype=torch.bfloat16,
        attn_implementation=attention,
        quantization_config=quantization,
        device_map={"": 0 if DEVICE == "cuda" else "cpu"},
    )
    return get_peft_model(model, LoraConfig(r=rank, target_modules="all-linear", use_dora=dora))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--longest", type=int, default=256)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    print("| adapter | rows | seconds per step | tokens/s | of LoRA | peak GB |\n|---|---|---:|---:|---:|---:|")
    first = 0.0
    for name, dora, factored, packed, quantized in (
        ("LoRA", False, False, False, False),
        ("DoRA, peft", True, False, False, False),
        ("DoRA, factored", True, True, False, False),
        ("LoRA", False, False, True, False),
        ("DoRA, factored", True, True, True, False),
        ("QLoRA, nf4", False, False, False, True),
    ):
        model = adapted(options.model, options.rank, dora=dora, quantized=quantized)
        if factored:
            factor_dora(model, new=True)
        if packed:
            attend_packed(model.get_base_model())
        inputs = batch(model.config, options.rows, options.longest, packed=packed)
        seconds, peak = measure(model, inputs, options.steps)
        first = first or seconds
        lengths = int((inputs["labels"] != -100).sum())
        how = "packed" if packed else "padded"
        print(f"| {name} | {how} | {seconds:.2f} | {lengths / seconds:.0f} | {seconds / first:.2f} | {peak:.1f} |")


if __name__ == "__main__":
    main()
