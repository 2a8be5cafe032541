"""Speed of supervised fine-tuning: stock TRL, hand-tuned TRL, and the stage's own trainer, in one run.

    python -m perf.sft [--shape 8b] [--arms naive tuned ours ...] [--steps 8] [--tokenizer models/base]

Random weights at a published shape; rows of random tokens with lognormal lengths (mean about 465, longest 1,472), a
quarter of each without loss. Reported per arm: real tokens per second over the last steps, the share of the measured
bf16 matrix peak (4 P + 3 A floating-point operations a token for LoRA, 6 P + 3 A for all weights; P without the input
embedding, A the forward pass of attention), peak memory, and the ratio to `tuned`.
"""

import argparse
import gc
import inspect
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer, pack_dataset
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from ladder.models import packed_attention
from ladder.models.dora import factor_dora
from ladder.models.fused_lora import fuse_adapters
from ladder.training.micro_batches import one_batch, with_liger
from stages.sft import make_trainer

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPES = {
    # Llama 3.1 8B, Llama 3.2 1B, SmolLM2 135M: hidden, intermediate, layers, heads, key heads, vocabulary, tied
    "8b": (4096, 14336, 32, 32, 8, 128_256, False),
    "1b": (2048, 8192, 16, 32, 8, 128_256, True),
    "135m": (576, 1536, 30, 9, 3, 49_152, True),
    "tiny": (64, 128, 2, 4, 2, 512, True),
}
LENGTH = 2048
COMMON = {
    "max_length": LENGTH, "learning_rate": 1e-4, "lr_scheduler_type": "constant", "logging_steps": 1, "bf16": True,
    "report_to": "none", "save_strategy": "no", "disable_tqdm": True, "remove_unused_columns": False,
    "dataset_kwargs": {"skip_prepare_dataset": True}, "use_cpu": DEVICE == "cpu",
}  # fmt: skip
ARMS: dict[str, dict[str, Any]] = {
    "naive": {"batch": (2, 8), "lora": {"lora_dropout": 0.05}},
    "tuned": {"batch": (6, 1), "lora": {}, "packing": True},
    "ours": {"batch": (32, 1), "lora": {}},
    "ours without fused adapters": {"batch": (32, 1), "lora": {}, "fuse": False},
    "ours without liger": {"batch": (32, 1), "lora": {}, "liger": False},
    "ours, DoRA": {"batch": (32, 1), "lora": {"use_dora": True}},
    "ours, all weights": {"batch": (64, 1), "lora": None},
}
Rows = list[dict[str, list[int]]]


class Meter(TrainerCallback):
    """Tokens and seconds of each step after the warm-up."""

    def __init__(self, warm: int) -> None:
        self.warm, self.started, self.tokens = warm, 0.0, 0
        self.before = 0
        self.trainer: Any = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.warm:
            synchronize()
            self.started, self.before = time.perf_counter(), self.trainer._total_train_tokens

    def rate(self) -> float:
        """Real tokens per second since the warm-up."""
        synchronize()
        return (self.trainer._total_train_tokens - self.before) / (time.perf_counter() - self.started)


def synchronize() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def rows(count: int, vocabulary: int) -> Rows:
    """Rows of random tokens; int lists input_ids and labels."""
    draw = random.Random(0)
    made = []
    for _ in range(count):
        length = min(max(int(1.25 * draw.lognormvariate(5.6, 0.8)), 50), 1472)
        ids = [draw.randrange(vocabulary) for _ in range(length)]
        made.append({"input_ids": ids, "labels": [-100] * (length // 4) + ids[length // 4 :]})
    return made


def fresh(shape: str, dtype: torch.dtype) -> Any:
    """Random weights on the device."""
    hidden, intermediate, layers, heads, key_heads, vocabulary, tied = SHAPES[shape]
    config = LlamaConfig(
        hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=key_heads, vocab_size=vocabulary, tie_word_embeddings=tied, max_position_embeddings=8192,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(DEVICE):
        return LlamaForCausalLM._from_config(config, dtype=dtype, attn_implementation="sdpa")


@contextmanager
def any_varlen() -> Iterator[None]:
    """Let PyTorch 2.11's variable-length kernel, which has no enable_gqa, take repeated key heads."""
    real: Any = packed_attention.varlen_attn
    if "enable_gqa" in inspect.signature(real).parameters:
        yield
        return

    def repeated(query: Any, key: Any, value: Any, *rest: Any, enable_gqa: bool = False, **options: Any) -> Any:
        times = query.shape[1] // key.shape[1]
        return real(query, key.repeat_interleave(times, 1), value.repeat_interleave(times, 1), *rest, **options)

    packed_attention.varlen_attn = repeated
    try:
        yield
    finally:
        packed_attention.varlen_attn = real


def matrix_peak(size: int = 8192, repeats: int = 20) -> float:
    """Measured floating-point operations per second of a bf16 matrix product."""
    size = size if DEVICE == "cuda" else 256
    a, b = (torch.randn(size, size, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(4):
        a @ b
    synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        a @ b
    synchronize()
    return 2 * size**3 * repeats / (time.perf_counter() - started)


def trainer(arm: str, model: Any, tokenizer: Any, data: Rows, steps: int, folder: str) -> Any:
    """Trainer of one arm. `ours` is what the stage sft builds."""
    asked = ARMS[arm]
    batch, accumulated = asked["batch"]
    given = {
        **COMMON, "output_dir": folder, "max_steps": steps, "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": accumulated, "gradient_checkpointing": arm == "naive",
    }  # fmt: skip
    liger = with_liger({}) if asked.get("liger", True) and arm != "naive" else {}
    if arm.startswith("ours"):
        if asked["lora"] is not None and asked.get("fuse", True):
            fuse_adapters(model)
        return make_trainer(model, SFTConfig(**one_batch(given), **liger), tokenizer, data, [], None)
    config = SFTConfig(**given, **liger)
    dataset = Dataset.from_list(data)
    if asked.get("packing"):
        dataset = pack_dataset(dataset, LENGTH, "bfd")
        packed_attention.attend_packed(model.get_base_model())
    made = SFTTrainer(model, args=config, train_dataset=dataset, processing_class=tokenizer)
    if asked.get("packing"):
        made.data_collator = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    return made


def operations(model: Any, data: Rows, *, full: bool) -> float:
    """Floating-point operations per token of forward and backward, without recomputation."""
    config = model.config
    weights = sum(weight.numel() for name, weight in model.named_parameters() if "lora_" not in name)
    if not config.tie_word_embeddings:
        weights -= config.vocab_size * config.hidden_size
    lengths = [len(row["input_ids"]) for row in data]
    attention = 2 * config.num_hidden_layers * config.hidden_size * sum(n * n for n in lengths) / sum(lengths)
    return (6 if full else 4) * weights + 3 * attention


def measure(arm: str, shape: str, tokenizer: Any, data: Rows, steps: int) -> tuple[float, float, float]:
    """(tokens per second, operations per second, peak GB) of one arm."""
    settings = ARMS[arm]["lora"]
    model = fresh(shape, torch.float32 if settings is None else torch.bfloat16)
    if settings is not None:
        model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", **settings))
        factor_dora(model, new=True)
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        made = trainer(arm, model, tokenizer, data, steps, folder)
        meter = Meter(steps // 3)
        meter.trainer = made
        made.add_callback(meter)
        made.remove_callback(PrinterCallback)
        if arm.startswith("ours"):
            made.choose(Path(folder))
        made.train()
        rate = meter.rate()
    peak = torch.cuda.max_memory_allocated() / 1e9 if DEVICE == "cuda" else 0.0
    return rate, rate * operations(model, data, full=settings is None), peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="8b")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS)[:6])
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--tokenizer", type=Path, default=Path("models/base"), help="any tokenizer with a pad token")
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer, trust_remote_code=False)
    data = rows(800 if DEVICE == "cuda" else 64, SHAPES[options.shape][5])
    ceiling = matrix_peak()
    where = torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu"
    print(f"{options.shape} on {where}, torch {torch.__version__}, matrix peak {ceiling / 1e12:.1f} TFLOP/s")
    print("| arm | tokens/s | of the peak | GB | to tuned |\n|---|---:|---:|---:|---:|", flush=True)
    tuned = None
    with any_varlen():
        for arm in options.arms:
            rate, speed, peak = measure(arm, options.shape, tokenizer, data, options.steps)
            tuned = rate if arm == "tuned" else tuned
            ratio = f"{rate / tuned:.2f}" if tuned else ""
            print(f"| {arm} | {rate:,.0f} | {speed / ceiling:.1%} | {peak:.1f} | {ratio} |", flush=True)
            gc.collect()
            if DEVICE == "cuda":
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
