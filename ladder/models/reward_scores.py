"""Rewards of conversations under a reward model."""

import torch
from torch.nn.utils.rnn import pad_sequence

from ladder.models.checkpoint import Model, device
from ladder.models.likelihood import batches


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
