"""Preference pairs as tokens, the same for the reference's log-probabilities and for the training."""

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from ladder.chat import check_messages, completion_tokens
from ladder.rows import Row
from ladder.run import Refused


def pair_tokens(tokenizer: PreTrainedTokenizerBase, row: Row, where: str) -> Row:
    """A pair as TRL's DPO reads it: prompt_ids, chosen_ids, rejected_ids, each [length].

    A rejected answer that was cut at its limit gets no stop token: the policy never wrote one.
    Errors: Refused naming the row when it is not `prompt, chosen, rejected`, or when both answers are the same.
    """
    for name in ("prompt", "chosen", "rejected"):
        check_messages(row.get(name), f"{where}: {name}")
    if row["chosen"] == row["rejected"]:
        raise Refused(f"{where}: chosen and rejected are the same answer")
    prompt, chosen = completion_tokens(tokenizer, row["prompt"], row["chosen"][-1]["content"])
    _, rejected = completion_tokens(tokenizer, row["prompt"], row["rejected"][-1]["content"])
    if not row.get("rejected_finished", True):
        rejected = rejected[:-1]
    return {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}


def all_pair_tokens(tokenizer: PreTrainedTokenizerBase, rows: list[Row], data: Path) -> list[Row]:
    """`pair_tokens` of every row of a file."""
    return [pair_tokens(tokenizer, row, f"{data}: row {number}") for number, row in enumerate(rows, start=1)]
