"""Scores of given conversations under a model: log-likelihood of completions, and rewards."""

from collections.abc import Iterator

import torch
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from ladder.models.checkpoint import Model, device


def batches(lengths: list[int], tokens: int) -> Iterator[list[int]]:
    """Group row indices into batches, longest rows first, with rows * longest row <= `tokens`."""
    group: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        if group and (len(group) + 1) * lengths[group[0]] > tokens:
            yield group
            group = []
        group.append(index)
    if group:
        yield group


@torch.inference_mode()
def completion_logps(
    model: Model, prompts: list[list[int]], completions: list[list[int]], *, tokens: int = 4096, progress: str = ""
) -> list[float]:
    """Sum over a completion's tokens of log p(token | prompt, earlier tokens), in nats; shape [rows].

    Logits are computed only at the completion's positions, in float32, one row at a time.
    """
    rows = [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)]
    sums = [0.0] * len(rows)
    bar = tqdm(total=len(rows), desc=progress, unit="row")
    causal = model.model.get_base_model() if hasattr(model.model, "get_base_model") else model.model
    for group in batches([len(row) for row in rows], tokens):
        ids = pad_sequence([torch.tensor(rows[index]) for index in group], batch_first=True).to(device())
        # Right padding: under causal attention no real token attends to it.
        hidden = causal.model(input_ids=ids, use_cache=False).last_hidden_state
        for place, index in enumerate(group):
            start, end = len(prompts[index]), len(rows[index])
            logits = causal.lm_head(hidden[place, start - 1 : end - 1]).float()
            logps = logits.log_softmax(-1).gather(-1, ids[place, start:end, None])
            sums[index] = logps.sum().item()
        bar.update(len(group))
    bar.close()
    return sums


@torch.inference_mode()
def rewards(model: Model, ids: list[list[int]], *, tokens: int = 4096) -> list[float]:
    """Compute the reward of each conversation.

    `ids` [rows][length] holds prompt and answer, with the stop token if the answer ended. Returns [rows]. Rows are
    batched longest first, at most `tokens` per batch, and padded on the right: a row's reward does not depend on its
    batch.
    """
    pad = model.model.config.pad_token_id
    scores = [0.0] * len(ids)
    for group in batches([len(row) for row in ids], tokens):
        rows = [torch.tensor(ids[index]) for index in group]
        padded = pad_sequence(rows, batch_first=True, padding_value=pad).to(device())
        seen = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True).to(device())
        values = model.model(input_ids=padded, attention_mask=seen, use_cache=False).logits[:, 0]
        for index, value in zip(group, values.tolist(), strict=True):
            scores[index] = value
    return scores
