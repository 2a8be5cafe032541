"""Filter rows whose answer is empty after rendering. Training on them teaches a model to return empty answers."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from transformers import PreTrainedTokenizerBase

from ladder.data.jsonl import Row
from ladder.pipeline.stage import UserError
from ladder.training.sft_examples import Example

T = TypeVar("T")
NO_REASONING = re.compile(r"<think>\s*</think>")
INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff"
FEW = 64
"""Number of tokens decoded to find text. An answer that is blank in all of them counts as blank."""


def is_blank(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> bool:
    """Return whether an answer's tokens hold only special tokens, whitespace and empty <think> blocks."""
    special = set(tokenizer.all_special_ids)
    text = str(tokenizer.decode([token for token in ids if token not in special][:FEW]))
    return not NO_REASONING.sub("", text).translate(dict.fromkeys(map(ord, INVISIBLE))).strip()


def answered(rows: list[Example], data: Path, tokenizer: PreTrainedTokenizerBase) -> list[Example]:
    """Return the rows in which every learned turn has text. Errors: UserError when there is none."""
    kept = [row for row in rows if not any(is_blank(tokenizer, turn) for turn in learned_turns(row))]
    return _some(kept, rows, data, "answer")


def learned_turns(row: Example) -> Iterator[list[int]]:
    """Iterate over the token IDs of each run of learned positions; a run is one assistant turn."""
    turn: list[int] = []
    for label in row["labels"].tolist():
        if label != -100:
            turn.append(label)
        elif turn:
            yield turn
            turn = []
    if turn:
        yield turn


def answered_pairs(pairs: list[Row], data: Path, tokenizer: PreTrainedTokenizerBase) -> list[Row]:
    """Return the pairs whose chosen answer has text. An empty rejected answer is kept, as a valid bad example.

    Errors: UserError when there is none.
    """
    return _some([pair for pair in pairs if not is_blank(tokenizer, pair["chosen_ids"])], pairs, data, "chosen answer")


def _some(kept: list[T], rows: list[T], data: Path, what: str) -> list[T]:
    if not kept:
        raise UserError(
            f"{data}: nothing to learn: the {what} of all {len(rows)} rows is empty after rendering; expected text. "
            "Check the rows, and whether the chat template writes the assistant's content."
        )
    return kept
