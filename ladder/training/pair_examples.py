"""Tokenize preference pairs, identically for reference log-probabilities, all pair trainings and scoring."""

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from ladder.chat.encode import check_messages, check_plain, completion_tokens, each_row
from ladder.chat.mask_gate import text_gate
from ladder.data.jsonl import Row, column
from ladder.models.checkpoint import Rung, check_parent
from ladder.pipeline.stage import UserError


def pair_tokens(tokenizer: PreTrainedTokenizerBase, row: Row, where: str) -> Row:
    """Tokenize a pair for TRL's DPO: prompt_ids, chosen_ids, rejected_ids, each [length].

    A rejected answer that was truncated gets no stop token, because the policy did not generate one.

    Errors: UserError naming the row when it is not `prompt, chosen, rejected`, when an answer is not exactly one
    assistant message or has no tokens, or when both answers are the same.
    """
    check_messages(row.get("prompt"), f"{where}: prompt")
    prompt, chosen = answer_tokens(tokenizer, row, "chosen", where)
    _, rejected = answer_tokens(tokenizer, row, "rejected", where)
    if not row.get("rejected_finished", True):
        rejected = rejected[:-1]
    if row["chosen"] == row["rejected"] or chosen == rejected:
        raise UserError(f"{where}: expected two different answers, got the same as chosen and rejected")
    if not rejected:
        raise UserError(f"{where}: nothing to compare: rejected is empty and was truncated before its stop token")
    return {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}


def answer_tokens(tokenizer: PreTrainedTokenizerBase, row: Row, name: str, where: str) -> tuple[list[int], list[int]]:
    """(prompt tokens, answer tokens) for the answer in one column, for example `chosen`. Checked by the text gate."""
    answer, at = _answer(row, name, where), f"{where}: {name}"
    check_plain(tokenizer, [*row["prompt"], answer], at)
    prompt, ids = completion_tokens(tokenizer, row["prompt"], answer, at)
    text_gate(tokenizer, [answer], prompt + ids, [0] * len(prompt) + [1] * len(ids), at)
    return prompt, ids


def _answer(row: Row, name: str, where: str) -> Row:
    messages = check_messages(row.get(name), f"{where}: {name}")
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        roles = ", ".join(message["role"] for message in messages)
        raise UserError(
            f"{where}: {name}: expected one message of the assistant, got {roles}. Move earlier turns to prompt."
        )
    return {name: value for name, value in messages[0].items() if name != "train"}


def all_pair_tokens(tokenizer: PreTrainedTokenizerBase, rows: list[Row], data: Path) -> list[Row]:
    """Apply `pair_tokens` to every row of a file."""
    return each_row(rows, data, lambda row, where: pair_tokens(tokenizer, row, where))


def referenced_pair_tokens(tokenizer: PreTrainedTokenizerBase, rows: list[Row], data: Path) -> list[Row]:
    """Apply `all_pair_tokens` and add ref_chosen_logps and ref_rejected_logps (nats, summed over the answer)."""
    chosen = column(rows, "ref_chosen_logps", float, data)
    rejected = column(rows, "ref_rejected_logps", float, data)
    return [
        {**pair, "ref_chosen_logps": first, "ref_rejected_logps": second}
        for pair, first, second in zip(all_pair_tokens(tokenizer, rows, data), chosen, rejected, strict=True)
    ]


def check_reference(rows: list[Row], data: Path, parent: Rung) -> None:
    """Refuse pairs whose reference log-probabilities come from another rung than the parent of the training."""
    for number, row in enumerate(rows, start=1):
        if row.get("reference") != parent.identity:
            check_parent(f"{data}: row {number}", parent, str(row.get("reference")))


def fitting(pairs: list[Row], data: Path, max_length: int | None) -> list[Row]:
    """Keep pairs whose two conversations have at most max_length tokens. Errors: UserError when none is left."""
    kept = [pair for pair in pairs if fits(pair, max_length)]
    if not kept:
        raise UserError(
            f"{data}: none of {len(pairs)} pairs fits max_length {max_length} or the length of the model's context"
        )
    return kept


def fits(row: Row, max_length: int | None) -> bool:
    """Whether the conversations of a pair, or the one of an unpaired preference, have at most max_length tokens."""
    answers = [len(row[name]) for name in ("chosen_ids", "rejected_ids", "completion_ids") if name in row]
    return max_length is None or len(row["prompt_ids"]) + max(answers) <= max_length
