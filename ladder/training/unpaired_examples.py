"""Tokenize unpaired preferences: a prompt, one answer, and a label for a good or bad answer."""

import random
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from ladder.chat.encode import check_messages, each_row
from ladder.data.jsonl import Row, column
from ladder.pipeline.stage import UserError
from ladder.training.pair_examples import answer_tokens, fits

COLUMNS = {"prompt", "completion", "label"}


def all_unpaired(rows: list[Row], data: Path) -> bool:
    """Whether a file contains unpaired preferences.

    Errors: UserError when only some rows are unpaired preferences.
    """
    number = next((number for number, row in enumerate(rows) if _is_unpaired(row) != _is_unpaired(rows[0])), None)
    if number is not None:
        raise UserError(
            f"{data}: row {number + 1}: expected all rows to be pairs (prompt, chosen, rejected) or all unpaired "
            "preferences (prompt, completion, label), got both"
        )
    return _is_unpaired(rows[0])


def _is_unpaired(row: Row) -> bool:
    return row.keys() >= COLUMNS


def refuse_unpaired(rows: list[Row], data: Path) -> None:
    """Refuse rows with labels in trainings that would imitate every answer, including bad ones.

    Errors: UserError naming the row.
    """
    for number, row in enumerate(rows, start=1):
        if _is_unpaired(row):
            raise UserError(
                f"{data}: row {number}: expected answers to imitate, got an unpaired preference with label "
                f"{row['label']!r}. Train with the stage kto, or read the source with `ignore: [label]`."
            )


def unpaired_tokens(tokenizer: PreTrainedTokenizerBase, row: Row, where: str) -> Row:
    """Tokenize a row for TRL's KTO: prompt_ids, completion_ids, each [length], and label.

    Errors: UserError naming the row when its label is not a boolean, or its answer is not exactly one assistant
    message.
    """
    if not isinstance(row["label"], bool):
        raise UserError(
            f"{where}: label: expected true or false, got {row['label']!r:.100}. `source` reads other labels."
        )
    check_messages(row["prompt"], f"{where}: prompt")
    prompt, completion = answer_tokens(tokenizer, row, "completion", where)
    return {"prompt_ids": prompt, "completion_ids": completion, "label": row["label"]}


def all_unpaired_tokens(tokenizer: PreTrainedTokenizerBase, rows: list[Row], data: Path) -> list[Row]:
    """Apply `unpaired_tokens` to every row of a file."""
    return each_row(rows, data, lambda row, where: unpaired_tokens(tokenizer, row, where))


def referenced_tokens(tokenizer: PreTrainedTokenizerBase, rows: list[Row], data: Path) -> list[Row]:
    """Apply `all_unpaired_tokens` and add ref_logps (nats, summed over the answer)."""
    logps = column(rows, "ref_completion_logps", float, data)
    tokens = all_unpaired_tokens(tokenizer, rows, data)
    return [{**row, "ref_logps": sum_} for row, sum_ in zip(tokens, logps, strict=True)]


def fitting(rows: list[Row], data: Path, max_length: int | None) -> list[Row]:
    """Keep rows of at most max_length tokens. Errors: UserError unless both good and bad answers are left."""
    kept = [row for row in rows if fits(row, max_length)]
    good = sum(row["label"] for row in kept)
    if not 0 < good < len(kept):
        fit = "" if max_length is None else f" that fit max_length {max_length}"
        raise UserError(f"{data}: expected good and bad answers{fit}, got {good} good and {len(kept) - good} bad ones")
    return kept


def spread(rows: list[Row], seed: int) -> list[Row]:
    """Shuffle rows and interleave good and bad answers evenly, so that batches contain both."""
    draw = random.Random(seed)
    placed: list[tuple[float, bool, Any]] = []
    for label in (True, False):
        group = [row for row in rows if row["label"] is label]
        draw.shuffle(group)
        placed += [((place + 0.5) / len(group), not label, row) for place, row in enumerate(group)]
    return [row for _, _, row in sorted(placed, key=lambda item: item[:2])]
