"""Check whether vLLM's greedy answers equal those of the ladder's decoder, and whether rounding explains differences.

    python -m perf.engines [--task data/task/ifeval.jsonl] [--model models/base] [--base models/base] [--rows 16]
        [--max-new-tokens 128]

Both engines get the same token ids, in bfloat16. perf/generate.py defines a numeric tie.
"""

import argparse
import copy
from pathlib import Path

from ladder.chat.encode import prompt_tokens
from ladder.data.jsonl import read_rows
from ladder.eval.registry import asked, benchmark
from ladder.eval.stratified import order
from ladder.inference import vllm_engine
from ladder.inference.engine import Completion, decode
from ladder.inference.types import Sampling
from ladder.models.checkpoint import load
from perf.generate import Run, compare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", type=Path, default=Path("data/task/ifeval.jsonl"))
    parser.add_argument("--model", type=Path, default=Path("models/base"))
    parser.add_argument("--base", type=Path, default=Path("models/base"))
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--max-new-tokens", type=int, default=128)
    options = parser.parse_args()
    questions = order(asked(benchmark(options.task.stem), read_rows(options.task), options.task))[: options.rows]
    sampling = Sampling(max_new_tokens=options.max_new_tokens)
    held, engine = load(options.model, options.base), vllm_engine.load(options.model, options.base)
    prompts = [prompt_tokens(held.tokenizer, [{"role": "user", "content": one.turns[0]}]) for one in questions]

    ladder = spoken("ladder", decode(held.model, prompts, sampling, stop=[held.stop]), held.stop)
    vllm = spoken("vLLM", engine.complete(prompts, sampling), held.stop)
    print(f"{len(prompts)} prompts, {ladder.count} and {vllm.count} tokens")
    compare(held.model, copy.deepcopy(held.model).float(), prompts, ladder, vllm)


def spoken(name: str, completions: list[Completion], stop: int) -> Run:
    """Convert an engine's completions to a Run, with the stop token of finished answers."""
    return Run(name, [one.tokens + [stop] * one.finished for one in completions], [])


if __name__ == "__main__":
    main()
