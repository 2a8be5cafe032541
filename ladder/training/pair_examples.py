"""Preference pairs as tokens, the same for the reference's log-probabilities, for every training and for scoring."""

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from ladder.chat.encode import check_messages, check_plain, completion_tokens, each_row
from ladder.chat.mask_gate import text_gate
from ladder.data.jsonl import Row, column
from ladder.models.checkpoint import Rung, check_parent
from ladder.pipeline.stage import UserError


def pair_tokens(tokenizer: PreTrainedTokenizerBase, row: Row, where: str) -> Row:
    """A pair as TRL's DPO reads it: prompt_ids, chosen_ids, rejected_ids, each [length].

    A rejected answer that was cut at its limit gets no stop token: the policy never wrote one.
    Errors: UserError naming the row when it is not `prompt, chosen, rejected`, when an answer is more than one
    message or has no token at all, or when both answers are the same.
    """
    check_messages(row.get("prompt"), f"{where}: prompt")
    prompt, chosen = answer_tokens(tokenizer, row, "chosen", where)
    _, rejected = answer_tokens(tokenizer, row, "rejected", where)
    if not row.get("rejected_finished", True):
        rejected = rejected[:-1]
    if row["chosen"] == row["rejected"] or chosen == rejected:
        raise UserError(f"{where}: chosen and rejected are the same answer")
    if not rejected:
        raise UserError(f"{where}: rejected is empty and was cut before its stop token: there is nothing to compare")
    return {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}


def answer_tokens(tokenizer: PreTrainedTokenizerBase, row: Row, name: str, where: str) -> tuple[list[int], list[int]]:
    """(prompt tokens, answer tokens) of the answer in a column, such as one side of a pair; through the text gate."""
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
            f"{where}: {name}: expected one message of the assistant, got {roles}; earlier turns go in prompt"
        )
    return {name: value for name, value in messages[0].items() if name != "train"}


def all_pair_tokens(tokenizer: PreTrainedTokenizerBase, rows: list[Row], data: Path) -> list[Row]:
    """`pair_tokens` of every row of a file."""
    return each_row(rows, data, lambda row, where: pair_tokens(tokenizer, row, where))


def referenced_pair_tokens(tokenizer: PreTrainedTokenizerBase, rows: list[Row], data: Path) -> list[Row]:
    """`all_pair_tokens` with ref_chosen_logps and ref_rejected_logps (nats, summed over the answer)."""
    chosen = column(rows, "ref_chosen_logps", float, data)
    rejected = column(rows, "ref_rejected_logps", float, data)
    return [
        {**pair, "ref_chosen_logps": first, "ref_rejected_logps": second}
        for pair, first, second in zip(all_pair_tokens(tokenizer, rows, data), chosen, rejected, strict=True)
    ]


def check_reference(rows: list[Row], data: Path, parent: Rung) -> None:
    """Refuse pairs whose reference is not the rung that the training starts from."""
    for number, row in enumerate(rows, start=1):
        if row.get("reference") != parent.identity:
            check_parent(f"{data}: row {number}", parent, str(row.get("reference")))


def fitting(pairs: list[Row], data: Path, max_length: int | None) -> list[Row]:
    """The pairs whose two conversations are at most max_length tokens. Errors: UserError when none is."""
    kept = [pair for pair in pairs if fits(pair, max_length)]
    if not kept:
        raise UserError(
            f"{data}: none of {len(pairs)} pairs fits max_length {max_length}, or the model's context of so many tokens"
        )
    return kept


def fits(row: Row, max_length: int | None) -> bool:
    """Whether the conversations of a pair, or the one of an unpaired preference, are at most max_length tokens."""
    answers = [len(row[name]) for name in ("chosen_ids", "rejected_ids", "completion_ids") if name in row]
    return max_length is None or len(row["prompt_ids"]) + max(answers) <= max_length
