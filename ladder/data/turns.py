"""Parts of a row, for every row type: its messages, its prompt, and its answer.

The answer of a row is the text of those assistant turns that training learns (`answer_turns`). Every filter that judges
an answer, the data card and the filter report read it through this module:

| row type | the answer |
|---|---|
| `messages` | every assistant turn that is not marked `train: false` |
| `prompt, completion` | the same, of the prompt and the completion: it is the same conversation |
| `prompt, completion, label` | the assistant turns of the completion; the prompt is context |
| `prompt, chosen, rejected` | the assistant turns of the chosen answer |
| `prompt` | none |

Turns of a tool, of the user and of the system are never part of it. Several turns are joined by line breaks.
"""

from typing import Any, Literal

from ladder.data.jsonl import Kind, Row
from ladder.pipeline.errors import UserError
from ladder.verifiers.reasoning import answer_of, find_answer

Part = Literal["prompt", "completion", "all"]
"""Part of a row.

`prompt` is the user's turns. `completion` is the answer, with reasoning inside its text but without
`reasoning_content`. `all` is every text of the row, including reasoning and a rejected answer.
"""
COLUMNS = ("messages", "prompt", "completion", "chosen", "rejected")
"""Columns that hold messages, in reading order."""
TYPES: dict[Kind, set[str]] = {
    "messages": {"messages"},
    "completion": {"prompt", "completion"},
    "preference": {"prompt", "chosen", "rejected"},
    "prompt": {"prompt"},
    "unpaired": {"prompt", "completion", "label"},
}
"""Columns that define a row type."""
SCORES = ("score_chosen", "score_rejected")
"""Scores of a pair's answers, named as in UltraFeedback-binarized (Tunstall et al. 2023, arXiv:2310.16944)."""
ANSWERED: dict[Kind, tuple[str, ...]] = {
    "messages": ("messages",),
    "completion": ("prompt", "completion"),
    "preference": ("chosen",),
    "prompt": (),
    "unpaired": ("completion",),
}
"""Columns whose learned assistant turns are the answer."""


def row_type(row: Row, where: str) -> Kind:
    """Return the type of a row from its columns. Errors: UserError when the columns match no type."""
    if TYPES["unpaired"] <= row.keys():  # not `completion`: training would include the bad answers
        return "unpaired"
    for name, columns in TYPES.items():
        if columns <= row.keys():
            return name
    raise UserError(
        f"{where}: expected the columns messages; prompt and completion; prompt, chosen and rejected; or prompt alone, "
        f"got {', '.join(map(str, row)) or 'none'}"
    )


def is_learned(message: Row) -> bool:
    """Return whether the loss includes a message: an assistant turn that is not marked `train: false`."""
    return message["role"] == "assistant" and message.get("train") is not False


def answer_turns(row: Row) -> list[Row]:
    """Return the messages that are the answer of a row; see the module docstring.

    A column may also be a text, TRL's standard format. Errors: UserError for a row of none of TRL's types.
    """
    kind = row_type(row, _where(row))
    return [message for name in ANSWERED[kind] for message in _turns(row, name) if is_learned(message)]


def answers(row: Row) -> list[str]:
    """Return the text of each turn of the answer, without reasoning (ladder/verifiers/reasoning.py)."""
    return [answer_of(message["content"]) for message in answer_turns(row)]


def answer(row: Row) -> str:
    """Return the answer of a row without reasoning, its turns joined by line breaks; empty without an answer."""
    return "\n".join(answers(row))


def said(row: Row, part: Part) -> str:
    """Return the texts of one part of a row, joined by line breaks. Errors: UserError as for `answer_turns`."""
    if part == "completion":
        return "\n".join([message["content"] for message in answer_turns(row)])
    columns = TYPES[row_type(row, _where(row))]
    texts = [message for name in COLUMNS if name in columns for message in with_reasoning(_turns(row, name))]
    return "\n".join([message["content"] for message in texts if part == "all" or message["role"] == "user"])


def saying(row: Row, part: Part) -> list[bool]:
    """Return, for each message of `messages(row)`, whether it belongs to the part."""
    kind = row_type(row, _where(row))
    columns = ANSWERED[kind] if part == "completion" else TYPES[kind]
    return [
        name in columns and (part == "all" or (is_learned(one) if part == "completion" else one["role"] == "user"))
        for name in COLUMNS
        if name in row
        for one in with_reasoning(_turns(row, name))
    ]


def messages(row: Row) -> list[Row]:
    """Return all messages of a row in order; for a pair the prompt, the chosen and the rejected answer.

    The reasoning of an answer follows it as a message with the role `reasoning`.
    """
    return [message for name in COLUMNS if name in row for message in with_reasoning(_turns(row, name))]


def with_reasoning(turns: list[Row]) -> list[Row]:
    """Insert the reasoning of each message after it, as a message with the role `reasoning`."""
    if not any("reasoning_content" in turn for turn in turns):
        return turns
    return [
        part
        for turn in turns
        for part in (turn, {"role": "reasoning", "content": turn.get("reasoning_content")})
        if part["content"] is not None
    ]


def reasons(row: Row) -> bool:
    """Return whether an answer of the row has reasoning in its text, which `answer` leaves out."""
    return any(message["role"] == "assistant" and find_answer(message["content"]).reasons for message in messages(row))


def without_reasoning(messages: list[Row]) -> list[Row]:
    """Return the messages with reasoning removed from the assistant's turns, as reward models and guards read them."""
    return [
        {"role": "assistant", "content": answer_of(message["content"])} if message["role"] == "assistant" else message
        for message in messages
    ]


def with_chosen(row: Row) -> Row:
    """Convert a pair to the conversation that ends in its chosen answer; other rows are returned unchanged."""
    return {"id": row.get("id"), "prompt": row["prompt"], "completion": row["chosen"]} if "chosen" in row else row


def scores(row: Row) -> list[float] | None:
    """Return [score_chosen, score_rejected], or None unless both are present.

    Errors: ValueError for a score that is not a number.
    """
    found = [row.get(name) for name in SCORES]
    for name, value in zip(SCORES, found, strict=True):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"{name}: expected a number, got {value!r:.100}")
    return None if None in found else [float(value) for value in found if value is not None]


def _turns(row: Row, name: str) -> list[Row]:
    value: Any = row[name]
    if isinstance(value, str):
        return [{"role": "user" if name == "prompt" else "assistant", "content": value}]
    turns: list[Row] = value
    return turns


def _where(row: Row) -> str:
    return f"row {row.get('id')}"
