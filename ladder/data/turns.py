"""Texts of a row by part (prompt, completion, all), for filters, independent of the row type."""

from typing import Literal

from ladder.data.jsonl import Row
from ladder.data.wording import COLUMNS, messages, with_reasoning
from ladder.pipeline.stage import UserError
from ladder.verifiers.reasoning import answer_of, find_answer

Part = Literal["prompt", "completion", "all"]
"""Part of a row.

`prompt` is the user's turns. `completion` is the assistant's turns, including those in the prompt, without
`reasoning_content`; for a pair, it excludes the rejected answer. `all` is every text of the row, including reasoning.
"""


def said(row: Row, part: Part) -> str:
    """Return the texts of one part of a row, joined by line breaks.

    Accepts the types `messages`, `prompt, completion`, `prompt, chosen, rejected` and a `prompt` alone. Errors:
    UserError for other rows.
    """
    if part == "all":
        return "\n".join(
            [message["content"] for name in _columns(row, every=True) for message in with_reasoning(row[name])]
        )
    role = "user" if part == "prompt" else "assistant"
    columns = _columns(row, every=False)
    return "\n".join([message["content"] for name in columns for message in row[name] if message["role"] == role])


def answered(row: Row) -> str:
    """Return the assistant's answers of a row without the reasoning of each turn, for filters of answers."""
    columns = _columns(row, every=False)
    said = [message["content"] for name in columns for message in row[name] if message["role"] == "assistant"]
    return "\n".join(map(answer_of, said))


def without_reasoning(messages: list[Row]) -> list[Row]:
    """Return the messages with reasoning removed from the assistant's turns, as reward models and guards read them."""
    return [
        {"role": "assistant", "content": answer_of(message["content"])} if message["role"] == "assistant" else message
        for message in messages
    ]


def reasons(row: Row) -> bool:
    """Return whether an answer of the row has reasoning that `answered` leaves out."""
    return any(message["role"] == "assistant" and find_answer(message["content"]).reasons for message in messages(row))


def saying(row: Row, part: Part) -> list[bool]:
    """Return, for each message in the order of ladder/data/wording.py, whether it belongs to the part."""
    columns = _columns(row, every=part == "all")
    role = None if part == "all" else "user" if part == "prompt" else "assistant"
    names = (name for name in COLUMNS if name in row)
    return [
        name in columns and role in (None, message["role"]) for name in names for message in with_reasoning(row[name])
    ]


def with_chosen(row: Row) -> Row:
    """Convert a pair to the conversation that ends in its chosen answer; other rows are returned unchanged."""
    return {"id": row.get("id"), "prompt": row["prompt"], "completion": row["chosen"]} if "chosen" in row else row


def _columns(row: Row, *, every: bool) -> tuple[str, ...]:
    if "messages" in row:
        return ("messages",)
    if "completion" in row:
        return ("prompt", "completion")
    if "chosen" in row:
        return ("prompt", "chosen", "rejected") if every else ("prompt", "chosen")
    if "prompt" in row:
        return ("prompt",)
    raise UserError(f"row {row.get('id')}: expected messages, prompt and completion, or prompt, chosen and rejected")
