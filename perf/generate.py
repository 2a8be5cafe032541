"""Throughput of the ladder on a benchmark against lm-eval's Hugging Face backend: same weights, prompts and process.

    python -m perf.generate [--task data/task/ifeval.jsonl] [--model models/base] [--rows 64] [--max-new-tokens 256]
        [--batches 1 8 16 auto] [--slots 16] [--threads 2] [--device cuda] [--shape 8b] [--no-scores]

Both get the conversations. Each renders, tokenizes and decodes them by itself, greedily, with the model's stop token
and one limit. lm-eval's default batch is 1; `auto` tries 64 rows of the model's full length (CUDA only). The ladder
runs first and again at the end. Counted are the tokens of answers, including the stop token. On a shared CPU the ratio
of CPU seconds is more reliable, at `--threads 1`: two threads that wait for each other spin.

Where two answers first differ, the same weights in float32 give the margin of the better choice. It is a numeric tie
when the margin is at most the change that bfloat16 can make to two logits: twice its largest error there, measured
against float32. The output also counts margins within one bfloat16 step of the largest logit, a stricter bound.

The floor is the minimum time to decode these answers in one batch: the layers' matrix products, and the cache of the
rows still running. On CUDA it is their bytes over the measured bandwidth; on a CPU it is the products timed alone, in
CPU seconds. `--shape 8b` has Llama 3.1 8B's published shape and random weights: no scores.
"""

import argparse
import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from ladder.chat.encode import Messages, prompt_tokens
from ladder.data.jsonl import read_rows
from ladder.eval.benchmark import Answers, Question, Tools
from ladder.eval.registry import asked, benchmark
from ladder.eval.scores import Resampling, score_answers, summary
from ladder.eval.stratified import order
from ladder.inference.engine import decode
from ladder.inference.types import Sampling

SHAPES = {
    "8b": LlamaConfig(
        vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, max_position_embeddings=131072, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2,
        rope_parameters={
            "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
        },
    )
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One engine's answers in the order asked (tokens with the stop token, and texts), and their cost."""

    name: str
    tokens: list[list[int]]
    texts: list[str]
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def count(self) -> int:
        """Number of tokens of all answers."""
        return sum(map(len, self.tokens))

    @property
    def per_second(self) -> float:
        return self.count / self.seconds

    @property
    def per_cpu_second(self) -> float:
        return self.count / self.cpu_seconds


class Recorded(HFLM):
    """lm-eval's backend, recording its generated tokens by prompt."""

    def _model_generate(self, context: Tensor, max_length: int, stop: list[str], **kwargs: Any) -> Tensor:
        made = super()._model_generate(context, max_length=max_length, stop=stop, **kwargs)
        kept: dict[tuple[int, ...], list[int]] = self.__dict__.setdefault("kept", {})
        width = context.shape[1]
        for row, mask in zip(made.tolist(), kwargs["attention_mask"].tolist(), strict=True):
            kept[tuple(row[width - sum(mask) : width])] = row[width:]
        return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", type=Path, default=Path("data/task/ifeval.jsonl"))
    parser.add_argument("--punkt", type=Path, default=Path("data/punkt"))
    parser.add_argument("--model", type=Path, default=Path("models/base"))
    parser.add_argument("--shape", choices=sorted(SHAPES), help="random weights of this shape; --model's tokenizer")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--batches", nargs="*", default=["1", "16"], help="batch sizes of lm-eval, or auto")
    parser.add_argument("--slots", type=int, help="batch size of ladder.inference.engine (default: its own choice)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--no-scores", action="store_true", help="compare only the answers")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    found = benchmark(options.task.stem)
    questions = order(asked(found, read_rows(options.task), options.task))[: options.rows]
    conversations = [[{"role": "user", "content": question.turns[0]}] for question in questions]
    tokenizer: Any = AutoTokenizer.from_pretrained(options.model, trust_remote_code=False)
    model = build(options.model, options.shape, options.device)
    prompts = [prompt_tokens(tokenizer, messages) for messages in conversations]
    runs = measure(model, tokenizer, conversations, options)
    mean = sum(map(len, prompts)) / len(prompts)
    print(f"\n{len(prompts)} prompts of {mean:.0f} tokens, at most {options.max_new_tokens} new, "
          f"{model.num_parameters() / 1e6:.0f}M parameters on {where(options.device)}")  # fmt: skip
    print("| engine | tokens | seconds | tokens/s | ladder's ratio | CPU s | tokens/CPU s | ladder's ratio |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for run in runs:
        print(f"| {run.name} | {run.count} | {run.seconds:.2f} | {run.per_second:.1f} | "
              f"{runs[0].per_second / run.per_second:.2f} | {run.cpu_seconds:.1f} | {run.per_cpu_second:.1f} | "
              f"{runs[0].per_cpu_second / run.per_cpu_second:.2f} |")  # fmt: skip
    print()
    exact = copy.deepcopy(model).float()
    for run in runs[1:]:
        compare(model, exact, prompts, runs[0], run)
    for first, second in zip(runs[1:-2], runs[2:-1], strict=True):  # lm-eval at consecutive batch sizes
        compare(model, exact, prompts, first, second)
    del exact
    if not (options.shape or options.no_scores):
        for run in runs:
            print(f"score {run.name}: {scored(questions, run, options)}")
    least, cuda = floor(model, prompts, runs[0].tokens), model.device.type == "cuda"
    spent = min(run.seconds if cuda else run.cpu_seconds for run in (runs[0], runs[-1]))
    print(f"decode floor {least:.2f} s, ladder {spent:.2f} s: {least / spent:.0%}")


def build(directory: Path, shape: str | None, device: str) -> Any:
    """Load a causal language model in bfloat16 on the device: the directory's, or a random one with a given shape."""
    if shape is None:
        model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16, trust_remote_code=False)
        return model.to(device).eval()
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(SHAPES[shape], dtype=torch.bfloat16, trust_remote_code=False).eval()


def measure(model: Any, tokenizer: Any, conversations: list[Messages], options: argparse.Namespace) -> list[Run]:
    """Run the ladder, lm-eval at each batch size, and the ladder again."""
    limit = options.max_new_tokens

    def ladder() -> Run:
        prompts = [prompt_tokens(tokenizer, messages) for messages in conversations]
        stop = [tokenizer.eos_token_id]
        made = decode(model, prompts, Sampling(max_new_tokens=limit), stop=stop, batch=options.slots)
        texts = tokenizer.batch_decode([one.tokens for one in made], skip_special_tokens=True)
        return Run("ladder", [one.tokens + stop * one.finished for one in made], texts)

    def harness(batch: str) -> Run:
        backend = Recorded(model, tokenizer=tokenizer, batch_size=batch if batch == "auto" else int(batch))
        texts = [str(backend.apply_chat_template(messages)) for messages in conversations]
        settings = {"until": [], "do_sample": False, "temperature": 0.0, "max_gen_toks": limit}
        asking = [Instance("generate_until", {}, (text, settings), n) for n, text in enumerate(texts)]
        answers = backend.generate_until(asking, disable_tqdm=True)
        kept = backend.__dict__["kept"]
        tokens = [until(kept[tuple(prompt_tokens(tokenizer, one))], tokenizer.eos_token_id) for one in conversations]
        return Run(f"lm-eval, batch {batch}", tokens, answers)

    decode(model, [[1, 2, 3]] * 8, Sampling(max_new_tokens=8), stop=[])  # warm-up, not timed
    Recorded(model, tokenizer=tokenizer, batch_size=1).generate_until(
        [Instance("generate_until", {}, ("a", {"until": [], "do_sample": False, "max_gen_toks": 8}), 0)]
    )
    return [timed(ladder), *(timed(partial(harness, batch)) for batch in options.batches), timed(ladder)]


def timed(engine: Callable[[], Run]) -> Run:
    """Run an engine; return its Run with wall-clock and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    run = engine()
    return Run(run.name, run.tokens, run.texts, time.perf_counter() - wall, time.process_time() - cpu)


def until(tokens: list[int], stop: int) -> list[int]:
    """Cut tokens after the first stop token; the padding that follows is dropped."""
    return tokens[: tokens.index(stop) + 1] if stop in tokens else tokens


def where(device: str) -> str:
    """Name the GPU, or the number of CPU threads."""
    return torch.cuda.get_device_name() if device.startswith("cuda") else f"{torch.get_num_threads()} CPU threads"


@torch.inference_mode()
def compare(model: Any, exact: Any, prompts: list[list[int]], first: Run, second: Run) -> None:
    """Print how many answers differ, and whether rounding explains the differences. `exact` is the model in float32."""
    ties, steps = 0, []
    for prompt, one, other in zip(prompts, first.tokens, second.tokens, strict=True):
        if one == other:
            continue
        place = next(n for n, (here, there) in enumerate(zip(one, other, strict=False)) if here != there)
        ids = torch.tensor([prompt + one[:place]], device=model.device)
        rounded, logits = (net(ids, logits_to_keep=1).logits[0, -1].float() for net in (model, exact))
        missing = float(logits.max() - logits[[one[place], other[place]]].min())
        ties += missing <= 2 * float((rounded - logits).abs().max())
        steps.append(missing / 2.0 ** (math.floor(math.log2(float(logits.abs().max()))) - 7))
    verdict = "equal" if not steps else "equal but for ties" if ties == len(steps) else "not equal"
    near, farthest = sum(step <= 1 for step in steps), max(steps, default=0.0)
    print(f"{first.name} against {second.name}: {verdict}; {len(steps)} differ, {ties} by a tie, {near} within one "
          f"step, the farthest {farthest:.1f} steps")  # fmt: skip


def scored(questions: list[Question], run: Run, options: argparse.Namespace) -> str:
    """Score a run's answers; return the headline and the means as text."""
    found = benchmark(options.task.stem)
    answers = [Answers(one.key, ((text.strip(),),)) for one, text in zip(questions, run.texts, strict=True)]
    rows = score_answers(found, questions, answers, Tools(options.punkt))
    numbers = summary(found, rows, Resampling(resamples=1000))
    return ", ".join(f"{name} {numbers[name]}" for name in dict.fromkeys((found.title, *found.means)))


@torch.inference_mode()
def floor(model: Any, prompts: list[list[int]], answers: list[list[int]]) -> float:
    """Return the minimum seconds to decode all rows in one batch: reading weights and cache, nothing else."""
    config, steps = model.config, max(map(len, answers))
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    position = 2 * config.num_hidden_layers * config.num_key_value_heads * head_dim * model.dtype.itemsize
    cache = position * sum(
        len(prompt) * len(answer) + len(answer) * (len(answer) - 1) // 2
        for prompt, answer in zip(prompts, answers, strict=True)
    )
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    cuda = model.device.type == "cuda"
    source = torch.ones(2**30 if cuda else 2**28, dtype=torch.uint8, device=model.device)
    target = torch.empty_like(source)
    bandwidth = 2 * source.nbytes / clock(lambda: target.copy_(source), cuda)
    weights = sum(layer.weight.nbytes for layer in layers)
    print(f"\nbandwidth {bandwidth / 1e9:.0f} GB/s; a step reads {weights / 1e6:.0f} MB of weights; {steps} steps read "
          f"{cache / 1e9:.2f} GB of cache")  # fmt: skip
    if cuda:
        return (steps * weights + cache) / bandwidth
    rows = round(sum(map(len, answers)) / steps)
    inputs = [torch.ones(rows, layer.in_features, dtype=model.dtype) for layer in layers]

    def products() -> None:
        for layer, value in zip(layers, inputs, strict=True):
            layer(value)

    return steps * clock(products, cuda) + cache / bandwidth


def clock(work: Callable[[], Any], cuda: bool, repeats: int = 10) -> float:
    """Return the seconds of the fastest call: wall-clock time on CUDA, CPU time on a CPU."""
    now = time.perf_counter if cuda else time.process_time
    found = []
    for _ in range(repeats):
        start = now()
        work()
        if cuda:
            torch.cuda.synchronize()
        found.append(now() - start)
    return min(found)


if __name__ == "__main__":
    main()
