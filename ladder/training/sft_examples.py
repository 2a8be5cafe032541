"""Rows as the tokens that a model learns from: input_ids and labels, -100 where nothing is learned."""

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
    """input_ids and labels, int64 [length], of the rows of at most `max_length` tokens; through the mask gate."""
    refuse_unpaired(rows, data)
    encoded = encoded_rows(tokenizer, rows, data)
    kept = [(ids, mask) for ids, mask in encoded if max_length is None or len(ids) <= max_length]
    if not kept:
        raise UserError(
            f"{data}: none of {len(rows)} rows fits max_length {max_length}, or the model's context of so many tokens"
        )
    mask_gate([ids for ids, _ in kept], [mask for _, mask in kept], tokenizer.eos_token_id)
    return [example(ids, mask) for ids, mask in kept]


def encoded_rows(tokenizer: PreTrainedTokenizerBase, rows: list[Row], data: Path) -> list[tuple[list[int], list[int]]]:
    """`encode` of every row, checked by the text gate. Errors: UserError naming the row, and as `each_row` does."""

    def read(row: Row, where: str) -> tuple[list[int], list[int]]:
        messages = conversation(row, where)
        check_plain(tokenizer, messages, where)
        ids, mask = encode(tokenizer, messages, where)
        text_gate(tokenizer, messages, ids, mask, where)
        return ids, mask

    return each_row(rows, data, read)


def example(ids: list[int], mask: list[int]) -> Example:
    """A conversation's tokens and labels."""
    tokens = torch.tensor(ids)
    return {"input_ids": tokens, "labels": tokens.where(torch.tensor(mask).bool(), -100)}


def collate(rows: list[Example]) -> Example:
    """Pad on the right: input_ids with 0, labels with -100; both [rows, longest].

    Causal attention alone keeps the pads away from every token that counts, so no attention mask is needed.
    """
    return {
        "input_ids": pad_sequence([row["input_ids"] for row in rows], batch_first=True),
        "labels": pad_sequence([row["labels"] for row in rows], batch_first=True, padding_value=-100),
    }


def where_learned(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Where a learned token is predicted, which is the position before it.

    labels [rows, length]. Returns (columns, mask): the columns in which any row predicts one, int64 [columns], and
    which rows do there, bool [rows, columns].
    """
    predicts = labels[:, 1:] != -100
    columns = predicts.any(0).nonzero().flatten()
    return columns, predicts[:, columns]


def learned_logits(model: Any, batch: Example, **arguments: Any) -> tuple[Tensor, Any]:
    """(logits [learned, vocabulary], the model's output): logits where tokens are learned, row after row.

    The model is called as it was given, wrapped for several processes or not, so that gradients are synchronised.
    """
    columns, mask = where_learned(batch["labels"])
    output = model(input_ids=batch["input_ids"], logits_to_keep=columns, use_cache=False, **arguments)
    return output.logits[mask], output
