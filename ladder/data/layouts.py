"""Convert the columns of a published row to a conversation or a pair: one reader per format of ladder.data.formats."""

import re
from collections.abc import Callable, Collection
from typing import Any

from ladder.chat.encode import Messages
from ladder.data.column_names import ANSWERS, CONVERSATIONS, QUESTIONS, REASONING, SECOND_INPUTS, SYSTEMS
from ladder.data.columns import Unread, empty, plain
from ladder.data.jsonl import Row
from ladder.data.messages import messages_of
from ladder.pipeline.errors import InvalidRow

TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
INPUT_SEPARATOR = "\n\n"


def conversation_column(row: Row) -> str | None:
    """Return the column that holds a conversation under a name other than `messages`; None if there is none."""
    for name in CONVERSATIONS[1:]:
        value = row.get(name)
        if name == "conversations" and value is not None or isinstance(value, list) and _first_is_object(value):
            return name
    return None


def _first_is_object(value: list[Any]) -> bool:
    return bool(value) and isinstance(value[0], dict)


def _said(value: Any, column: str, role: str, ignore: Collection[str]) -> Messages:
    """Convert a column to messages; a plain text becomes one message of `role`."""
    return [{"role": role, "content": value}] if isinstance(value, str) else messages_of(value, column, ignore)


def _with_system(row: Row, messages: Messages) -> Messages:
    """Prepend the system message from its own column, as Alpaca and ShareGPT variants store it."""
    names = [name for name in SYSTEMS if name in row and not empty(row[name])]
    if not names:
        return messages
    system = row[names[0]]
    if any(row[name] != system for name in names) or not isinstance(system, str):
        raise InvalidRow(f"turns: the column {' or '.join(names)} is not text, or a second system message")
    if messages and messages[0]["role"] == "system":
        if messages[0]["content"].strip() == system.strip():
            return messages
        raise InvalidRow(f"turns: the column {names[0]} is not text, or a second system message")
    return [{"role": "system", "content": system}, *messages]


def reasoned(row: Row, messages: Messages) -> Messages:
    """Add reasoning from its own column to the row's single answer.

    Errors: Unread if the reasoning is not one text, or the row does not have exactly one answer. InvalidRow if the
    answer already has reasoning.
    """
    names = [name for name, value in row.items() if plain(name) in REASONING and not empty(value)]
    if not names:
        return messages
    answers = [message for message in messages if message["role"] == "assistant"]
    thought = row[names[0]]
    if not isinstance(thought, str) or any(row[name] != thought for name in names):
        raise Unread(names, (), why="expected reasoning as one text")
    if len(answers) != 1:
        raise Unread(names, (), why=f"it is ambiguous which of {len(answers)} answers the reasoning belongs to")
    if answers[0].get("reasoning_content", thought) != thought or "<think>" in answers[0]["content"]:
        raise InvalidRow(f"reasoning: both the column {names[0]!r} and the answer have it. Name the column in `ignore`")
    return [{**one, "reasoning_content": thought} if one is answers[0] else one for one in messages]


def _messages(row: Row, ignore: Collection[str]) -> list[Messages]:
    return [_with_system(row, messages_of(row.get("messages"), "messages", ignore))]


def _sharegpt(row: Row, ignore: Collection[str]) -> list[Messages]:
    name = conversation_column(row) or "conversations"
    return [_with_system(row, messages_of(row.get(name), name, ignore))]


def _completion(row: Row, ignore: Collection[str]) -> list[Messages]:
    prompt = _said(row.get("prompt"), "prompt", "user", ignore)
    return [_with_system(row, prompt + _said(row.get("completion"), "completion", "assistant", ignore))]


def _prompt(row: Row, ignore: Collection[str]) -> list[Messages]:
    return [_with_system(row, _said(row.get("prompt"), "prompt", "user", ignore))]


def _alpaca(row: Row, _: Collection[str]) -> list[Messages]:
    return [_with_system(row, _task(row.get("instruction"), row))]


def _seeds(row: Row, _: Collection[str]) -> list[Messages]:
    instances = row.get("instances")
    if not isinstance(instances, list) or not instances or not all(isinstance(each, dict) for each in instances):
        raise InvalidRow(f"not instances: expected a list of input and output, got {type(instances).__name__}")
    return [_task(row.get("instruction"), instance) for instance in instances]


def _task(instruction: Any, instance: Row) -> Messages:
    texts = {"instruction": instruction, "input": _second(instance), "output": instance.get("output")}
    for column, value in texts.items():
        if not isinstance(value, str):
            raise InvalidRow(f"not a text: {column} is {type(value).__name__}")
    asked = INPUT_SEPARATOR.join(text for text in (texts["instruction"], texts["input"]) if text.strip())
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": texts["output"]}]


def _second(row: Row) -> Any:
    """Return the text that follows the question: Alpaca's `input`, Dolly's `context`."""
    given = [row[name] for name in SECOND_INPUTS if row.get(name)]
    if len(given) > 1:
        raise InvalidRow("several inputs: 'input' and 'context'. Name one in `ignore`")
    return given[0] if given else ""


def asked_columns(row: Row) -> list[str]:
    """Return the question columns that have a value."""
    return [name for name in QUESTIONS if name in row and not empty(row[name])]


def _asked(row: Row, ignore: Collection[str]) -> Messages:
    """Return the question of a row, under any of its names, followed by the second input."""
    names = asked_columns(row)
    if len({str(row[name]) for name in names}) > 1:
        raise InvalidRow(f"several questions: {', '.join(map(repr, names))}. Name all but one in `ignore`")
    if names and not isinstance(row[names[0]], str):
        return messages_of(row[names[0]], names[0], ignore)
    texts = [*(row[name] for name in names[:1]), _second(row)]
    if not all(isinstance(text, str) for text in texts):
        raise InvalidRow("not a text: input or context")
    return [{"role": "user", "content": INPUT_SEPARATOR.join(text for text in texts if text.strip())}]


def answer_column(row: Row) -> str:
    """Return the row's answer column. Errors: InvalidRow for several answers with a value."""
    names = [name for name in ANSWERS if name in row and not empty(row[name])]
    if len(names) > 1:
        raise InvalidRow(
            f"several answers: {', '.join(map(repr, names))}. Choose one in `columns`, as in "
            f"{{completion: {names[0]}}}, and name the others in `ignore`"
        )
    return names[0] if names else next(name for name in ANSWERS if row.get(name) is not None)


def _question(row: Row, ignore: Collection[str]) -> list[Messages]:
    name = answer_column(row)
    return [_with_system(row, _asked(row, ignore) + _said(row[name], name, "assistant", ignore))]


READERS: dict[str, Callable[[Row, Collection[str]], list[Messages]]] = {
    "messages": _messages,
    "sharegpt": _sharegpt,
    "completion": _completion,
    "alpaca": _alpaca,
    "seeds": _seeds,
    "question": _question,
    "prompt": _prompt,
}
REASONED = ("messages", "sharegpt", "completion", "alpaca", "question")
"""Formats whose rows may store the reasoning of their answer in a separate column."""


def preference(row: Row, ignore: Collection[str]) -> tuple[Messages, Messages, Messages]:
    """Return (prompt, chosen, rejected) of a preference row.

    The answers may include the prompt, which is then their common prefix.

    Errors: InvalidRow if that prefix does not end with the prompt column.
    """
    chosen, rejected = (_said(row.get(name), name, "assistant", ignore) for name in ("chosen", "rejected"))
    answers = chosen[0]["role"] == rejected[0]["role"] == "assistant"
    stated: Messages = []
    if asked_columns(row) or not empty(row.get("input")):
        stated = _asked(row, ignore)
    elif answers and (name := next((name for name in CONVERSATIONS if isinstance(row.get(name), list)), None)):
        stated = messages_of(row[name], name, ignore)
    if answers:
        return _with_system(row, stated), chosen, rejected
    prompt, chosen, rejected = _part(chosen, rejected)
    if stated and prompt[-len(stated) :] != stated:
        raise InvalidRow("other prompt: chosen and rejected do not begin with the column prompt")
    return _with_system(row, prompt), chosen, rejected


def transcripts(row: Row) -> tuple[Messages, Messages, Messages]:
    """Return (prompt, chosen, rejected) of two dialogues in HH-RLHF's format; the prompt is their common prefix."""
    return _part(_dialogue(row.get("chosen"), "chosen"), _dialogue(row.get("rejected"), "rejected"))


def _part(first: Messages, second: Messages) -> tuple[Messages, Messages, Messages]:
    """Split two conversations into (common prefix, rest of the first, rest of the second).

    The rests of two equal conversations are their last messages.
    """
    shared = 0
    while shared < min(len(first), len(second)) and first[shared] == second[shared]:
        shared += 1
    if shared == len(first) == len(second):
        shared -= 1
    return first[:shared], first[shared:], second[shared:]


def _dialogue(text: Any, column: str) -> Messages:
    if not isinstance(text, str) or TURN.match(text) is None:
        raise InvalidRow(f"not a transcript: {column} does not begin with Human: or Assistant:")
    _, *parts = TURN.split(text)
    roles = ({"Human": "user", "Assistant": "assistant"}[speaker] for speaker in parts[::2])
    return [{"role": role, "content": said.strip()} for role, said in zip(roles, parts[1::2], strict=True)]
