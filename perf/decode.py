"""Throughput of `ladder.inference.engine` against padded `model.generate`, with the same model, prompts and process.

    python -m perf.decode MODEL [--prompts 64] [--max-new-tokens 192] [--generate 16 32] [--slots 64 128]

Greedy decoding in bfloat16, on CUDA if available. Counted are the tokens of answers, including the stop token; what a
padded batch computes after an answer's end is not. On a shared machine, CPU seconds are more reliable than seconds.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer

from ladder.inference.engine import decode
from ladder.inference.hf_generate import generate_padded
from ladder.inference.types import Completion, Sampling

TASKS = (
    "In one word, what is the opposite of {}?",
    "Write one short sentence about {} in which every word is lower case.",
    "List five facts about {} as bullet points, each at most ten words long.",
    "Explain {} to a child of six years. Use at least three paragraphs, and end with a question.",
    "Write an email of about 150 words to a friend in which you praise {}. Sign it with a first name only.",
)
TOPICS = ("rain", "the bicycle", "bread", "a library", "the moon", "chess", "a lighthouse", "honey", "glass", "sleep")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--max-new-tokens", type=int, default=192)
    parser.add_argument("--generate", type=int, nargs="*", default=[16, 32], help="batch sizes of model.generate")
    parser.add_argument(
        "--slots", type=int, nargs="*", default=[64, 128], help="batch sizes of ladder.inference.engine"
    )
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: Any = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.bfloat16, trust_remote_code=False)
    model.to(device).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(options.model, trust_remote_code=False)
    texts = [TASKS[n % len(TASKS)].format(TOPICS[n // len(TASKS) % len(TOPICS)]) for n in range(options.prompts)]
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
        )
        for text in texts
    ]
    stop = [tokenizer.eos_token_id]
    sampling = Sampling(temperature=options.temperature, max_new_tokens=options.max_new_tokens)

    def padded(batch: int) -> list[Completion]:
        with tqdm(total=len(prompts), desc=f"generate {batch}", unit="prompt") as bar, torch.inference_mode():
            return generate_padded(model, prompts, sampling, stop, batch, bar)

    def slots(batch: int) -> list[Completion]:
        return decode(model, prompts, sampling, stop=stop, batch=batch, progress=f"decode {batch}")

    decode(model, prompts[:8], Sampling(max_new_tokens=16), stop=stop)  # warm-up, not timed
    runs = [("generate", padded, batch) for batch in options.generate]
    runs += [("decode", slots, batch) for batch in options.slots]
    mean = sum(map(len, prompts)) / len(prompts)
    print(f"{len(prompts)} prompts of {mean:.0f} tokens, at most {options.max_new_tokens} new, {device}")
    print("| engine | batch | tokens | ended | seconds | tokens/s | ratio | CPU s | tokens/CPU s | ratio |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    first: tuple[float, float] | None = None
    for name, run, batch in runs:
        tokens, ended, wall, cpu = measure(run, batch)
        first = first or (tokens / wall, tokens / cpu)
        rates = (
            f"{seconds:.1f} | {tokens / seconds:.1f} | {tokens / seconds / base:.2f}"
            for seconds, base in zip((wall, cpu), first, strict=True)
        )
        print(f"| {name} | {batch} | {tokens} | {ended:.0%} | {' | '.join(rates)} |", flush=True)


def measure(run: Callable[[int], list[Completion]], batch: int) -> tuple[int, float, float, float]:
    """Run an engine; return tokens, share of finished answers, seconds, CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    answers = run(batch)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    ended = [answer.finished for answer in answers]
    return sum(len(answer.tokens) for answer in answers) + sum(ended), sum(ended) / len(ended), wall, cpu


if __name__ == "__main__":
    main()
