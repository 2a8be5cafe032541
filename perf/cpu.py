"""Speed of what the ladder does differently on a CPU, each beside the way of the library, in one run.

    python -m perf.cpu [--shape 135m] [--rounds 3] [--threads 1]

Random weights at a published shape with LoRA r=16 on all linear layers, float32. The arms of a part run in
turn, and the median of the rounds is reported:

    head       a training step on 8 rows of 57 tokens with 20 learned ones: TRL's head on all positions, on learned ones
    prompts    a GRPO update on 4 groups of 8 answers (5 to 30 tokens) to prompts of 57 tokens: repeated, shared prompts
    adapters   64 tokens for 16 prompts: adapters beside the weights, folded into them
"""

import argparse
import contextlib
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from trl import GRPOConfig, GRPOTrainer
from trl.trainer import utils

from ladder.inference import engine
from ladder.inference.types import Sampling
from ladder.training.learned_positions import select_on_cpu
from perf.pico import pico_tokenizer
from perf.sft import SHAPES, fresh
from stages.grpo import SlotTrainer

PROMPT, LEARNED, ROWS, GROUPS, ANSWERS = 57, 20, 8, 4, 8
Arm = Callable[[], Any]


def adapted(shape: str) -> Any:
    """Random model of a shape with LoRA r=16 on all linear layers, in float32."""
    model = fresh(shape, torch.float32)
    model.set_attn_implementation("eager")  # as rungs are loaded on a CPU (ladder/models/checkpoint.py)
    return get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"))


def head(shape: str) -> dict[str, Arm]:
    """A training step with logits of all positions, and of the learned ones."""
    model, original = adapted(shape), utils._use_triton
    utils.add_fused_lm_head(model.get_base_model())
    ids = torch.randint(3, 400, (1, ROWS * PROMPT))
    labels = ids.masked_fill(torch.arange(ids.shape[1]) % PROMPT < PROMPT - LEARNED, -100)

    def step(select: Callable[[], None]) -> None:
        select()
        model(input_ids=ids, labels=labels, fused_lm_head=True).loss.backward()
        model.zero_grad()

    return {
        "all positions (TRL)": lambda: step(lambda: setattr(utils, "_use_triton", original)),
        "learned positions": lambda: step(select_on_cpu),
    }


def prompts(shape: str) -> dict[str, Arm]:
    """A GRPO update with repeated prompts, and with each prompt computed once. Both select the learned positions."""
    draw, longest = random.Random(0), 30
    asked = torch.randint(3, 400, (GROUPS, PROMPT)).repeat_interleave(ANSWERS, 0)
    lengths = torch.tensor([draw.randint(5, longest) for _ in range(GROUPS * ANSWERS)])
    mask = torch.arange(longest) < lengths[:, None]
    ids = torch.cat([asked, torch.randint(3, 400, mask.shape) * mask], 1)
    seen = torch.cat([torch.ones_like(asked), mask.long()], 1)

    def arm(kind: type[GRPOTrainer]) -> Arm:
        config = GRPOConfig(output_dir=tempfile.mkdtemp(), report_to="none", bf16=False, use_cpu=True)
        data = Dataset.from_list([{"prompt": [{"role": "user", "content": "x"}], "row": "{}"}])
        made = kind(adapted(shape), [lambda **_: []], config, data, processing_class=pico_tokenizer())

        def update() -> None:
            select_on_cpu()
            made._get_per_token_logps_and_entropies(made.model, ids, seen, longest)[0].sum().backward()
            made.model_wrapped.zero_grad()

        return update

    return {"repeated prompts (TRL)": arm(GRPOTrainer), "shared prompts": arm(SlotTrainer)}


def adapters(shape: str) -> dict[str, Arm]:
    """Decoding with peft's layers, and with the adapters folded into the weights."""
    model, folded = adapted(shape).eval(), engine.folded_adapters
    asked = [torch.randint(3, 400, (PROMPT,)).tolist() for _ in range(16)]

    def answer(context: Any) -> None:
        setattr(engine, "folded_adapters", context)  # noqa: B010 - a function of a module
        engine.decode(model, asked, Sampling(max_new_tokens=64), stop=[])

    return {
        "adapters beside the weights (peft)": lambda: answer(lambda _: contextlib.nullcontext()),
        "adapters in the weights": lambda: answer(folded),
    }


PARTS: dict[str, Callable[[str], dict[str, Arm]]] = {"head": head, "prompts": prompts, "adapters": adapters}


def measured(arms: dict[str, Arm], rounds: int) -> dict[str, float]:
    """Median seconds of each arm over rounds in which the arms take turns, after one warm-up round."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(rounds + 1):
        for name, arm in arms.items():
            begun = time.perf_counter()
            arm()
            if number:
                seconds[name].append(time.perf_counter() - begun)
    return {name: statistics.median(found) for name, found in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(SHAPES), default="135m")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    print(f"| part | arm | seconds | ratio | ({chosen.shape}, {chosen.threads} threads, torch {torch.__version__})")
    print("|---|---|---:|---:|")
    for part in chosen.parts:
        found = measured(PARTS[part](chosen.shape), chosen.rounds)
        anchor = next(iter(found.values()))
        for name, seconds in found.items():
            print(f"| {part} | {name} | {seconds:.2f} | {anchor / seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
