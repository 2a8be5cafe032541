"""Generation for the families that the slots do not fit: transformers' own `generate`, over padded batches."""

from collections.abc import Collection
from typing import Any

import torch
from transformers import GenerationConfig

from ladder.memory import within_memory
from ladder.sampling import Completion, Sampling, until_stop


def generate_padded(
    model: Any, prompts: list[list[int]], sampling: Sampling, stop: Collection[int], batch: int | None, bar: Any
) -> list[Completion]:
    """`model.generate` over batches of similar prompt length, padded on the left; draws depend on the batch."""
    torch.manual_seed(sampling.seed)
    pad = min(stop, default=0)
    config = GenerationConfig(
        max_new_tokens=sampling.max_new_tokens, eos_token_id=sorted(stop) or None, pad_token_id=pad, do_sample=False
    )
    if sampling.temperature > 0:
        config.update(do_sample=True, temperature=sampling.temperature, top_p=sampling.top_p, top_k=0)
    answers: dict[int, Completion] = {}
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))

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

    within_memory(generate, lambda: 16, batch, model.device)
    return [answers[index] for index in range(len(prompts))]
