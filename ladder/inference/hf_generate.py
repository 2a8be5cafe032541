"""Padded batch generation with transformers' `generate`, for model families that the decoder does not support."""

import sys
from collections.abc import Collection
from typing import Any

import torch
from transformers import GenerationConfig

from ladder.inference.snapshot import Snapshot, State, flat, ragged
from ladder.inference.types import Completion, Sampling, until_stop
from ladder.models.oom import within_memory


def generate_padded(
    model: Any,
    prompts: list[list[int]],
    sampling: Sampling,
    stop: Collection[int],
    batch: int | None,
    bar: Any,
    *,
    first: int = 0,
    snapshot: Snapshot | None = None,
) -> list[Completion]:
    """Run `model.generate` on batches of similar prompt length, left-padded; random draws depend on the batch.

    `first` and `snapshot` are as in `ladder.inference.engine.decode`.
    """
    torch.manual_seed(sampling.seed + first)
    pad = min(stop, default=0)
    config = GenerationConfig(
        max_new_tokens=sampling.max_new_tokens, eos_token_id=sorted(stop) or None, pad_token_id=pad, do_sample=False
    )
    if sampling.temperature > 0:
        config.update(do_sample=True, temperature=sampling.temperature, top_p=sampling.top_p, top_k=0)
    answers: dict[int, Completion] = {}
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    cuda = model.device.type == "cuda"

    def state() -> State:
        draws = torch.cuda.get_rng_state(model.device) if cuda else torch.get_rng_state()
        made = [answers[index] for index in order[: len(answers)]]
        facts = {"finished": [one.finished for one in made]}
        return facts, {"draws": draws, **flat([one.tokens for one in made])}

    left = snapshot.read(torch.device("cpu")) if snapshot else None
    if left:
        made = map(Completion, ragged(left[1]), left[0]["finished"])
        answers |= dict(zip(order, made, strict=False))  # the longest prompts, which come first in `order`
        bar.write(f"resuming: {len(answers)} of {len(prompts)} answers are complete", file=sys.stderr)
        bar.update(len(answers))
        if cuda:
            torch.cuda.set_rng_state(left[1]["draws"], model.device)
        else:
            torch.set_rng_state(left[1]["draws"])

    def generate(rows: int) -> None:
        while chosen := order[len(answers) : len(answers) + rows]:
            width = len(prompts[chosen[0]])
            padding = [width - len(prompts[index]) for index in chosen]
            ids = [[pad] * n + prompts[index] for n, index in zip(padding, chosen, strict=True)]
            mask = [[0] * n + [1] * (width - n) for n in padding]
            out = model.generate(
                torch.tensor(ids, device=model.device),
                attention_mask=torch.tensor(mask, device=model.device),
                generation_config=config,
            )
            for index, tokens in zip(chosen, out[:, width:].tolist(), strict=True):
                answers[index] = until_stop(tokens, stop)
                bar.update()
            if snapshot:
                snapshot.keep(state, 16 * sum(len(one.tokens) + 1 for one in answers.values()))

    within_memory(generate, lambda: 16, batch, model.device)
    return [answers[index] for index in range(len(prompts))]
