"""Tokenize rows for supervised fine-tuning: input_ids and labels, with label -100 on tokens without loss."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from ladder.chat.encode import check_plain, conversation, each_row, encode
from ladder.chat.mask_gate import mask_gate, text_gate
from ladder.data.jsonl import Row
from ladder.pipeline.stage import UserError
from ladder.training.unpaired_examples import refuse_unpaired

Example = dict[str, Tensor]


def examples(rows: list[Row], data: Path, tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> list[Example]:
    """Examples of the rows with at most `max_length` tokens: input_ids and labels, int64 [length].

    Errors: UserError when no row fits, for unpaired preferences, and from the text and mask gates.
    """
    refuse_unpaired(rows, data)
    encoded = encoded_rows(tokenizer, rows, data)
    kept = [(ids, mask) for ids, mask in encoded if max_length is None or len(ids) <= max_length]
    if not kept:
        raise UserError(
            f"{data}: none of {len(rows)} rows fits max_length {max_length} or the length of the model's context"
        )
    mask_gate([ids for ids, _ in kept], [mask for _, mask in kept], tokenizer.eos_token_id)
    return [example(ids, mask) for ids, mask in kept]


def encoded_rows(tokenizer: PreTrainedTokenizerBase, rows: list[Row], data: Path) -> list[tuple[list[int], list[int]]]:
    """Apply `encode` and the text gate to every row. Errors: UserError naming the row, and as `each_row`."""

    def read(row: Row, where: str) -> tuple[list[int], list[int]]:
        messages = conversation(row, where)
        check_plain(tokenizer, messages, where)
        ids, mask = encode(tokenizer, messages, where)
        text_gate(tokenizer, messages, ids, mask, where)
        return ids, mask

    return each_row(rows, data, read)


def example(ids: list[int], mask: list[int]) -> Example:
    """Example from token ids and loss mask, both [length]."""
    tokens = torch.tensor(ids)
    return {"input_ids": tokens, "labels": tokens.where(torch.tensor(mask).bool(), -100)}


def collate(rows: list[Example]) -> Example:
    """Right-pad a batch: input_ids with 0, labels with -100, both [rows, longest].

    With causal attention, padding on the right does not affect other tokens, so no attention mask is needed.
    """
    return {
        "input_ids": pad_sequence([row["input_ids"] for row in rows], batch_first=True),
        "labels": pad_sequence([row["labels"] for row in rows], batch_first=True, padding_value=-100),
    }


def where_learned(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Positions whose logits predict a learned token, which is the position before that token.

    labels [rows, length]. Returns (columns, mask): columns with a prediction in any row, int64 [columns], and the rows
    that predict there, bool [rows, columns].
    """
    predicts = labels[:, 1:] != -100
    columns = predicts.any(0).nonzero().flatten()
    return columns, predicts[:, columns]


def learned_logits(model: Any, batch: Example, **arguments: Any) -> tuple[Tensor, Any]:
    """(logits [learned tokens, vocabulary], model output), with the logits in row order.

    `model` is called as given, wrapped for data parallelism or not, so that gradients are synchronized.
    """
    columns, mask = where_learned(batch["labels"])
    output = model(input_ids=batch["input_ids"], logits_to_keep=columns, use_cache=False, **arguments)
    return output.logits[mask], output
