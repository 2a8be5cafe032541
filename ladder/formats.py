"""The formats in which chats and preferences are published, mapped to one row type.

Recognised by their columns, in this order:

- preference   `prompt, chosen, rejected`, each a text or messages; chosen and rejected may hold the prompt as well
               (UltraFeedback-binarized), and then `prompt` may be missing
- transcripts  `chosen, rejected` as two whole dialogues, "\\n\\nHuman: ...\\n\\nAssistant: ..." (HH-RLHF)
- messages     `messages` of role and content (ChatML, OpenAI; UltraChat-200k)
- sharegpt     `conversations` of from (system, human, gpt, tool) and value
- completion   `prompt, completion`, each a text or messages
- alpaca       `instruction, output`, and `input` where there is one
- seeds        `instruction, instances`, each of input and output (Self-Instruct's seed tasks)
- tree         `prompt` with its `replies`, ranked (Open Assistant's trees): the best path, or every pair of ranks. Rows
               that are a message each (`message_id, parent_id, role, text`) are put together first
- prompt       `prompt` alone, a text or messages

Where rows of `prompt` are wanted, a conversation gives all up to its last message of the user, a pair its prompt.
A column without a value counts as missing. What would change a row's meaning and is not read here makes it a misfit.
"""

import re
from collections.abc import Callable
from typing import Any, Literal, get_args

from ladder import trees
from ladder.chat import ROLES, Messages, up_to_user
from ladder.misfits import Misfit
from ladder.rows import Kind, Row

Format = Literal["preference", "transcripts", "messages", "sharegpt", "completion", "alpaca", "seeds", "tree", "prompt"]
COLUMNS = {"prompt", "chosen", "rejected", "messages", "conversations", "completion", "instruction", "input", "output"}
COLUMNS |= {"instances", "system"}
"""Those that the formats read."""
SPEAKERS = {"human": "user", "gpt": "assistant"} | {role: role for role in ROLES}
UNREAD = ("history", "images", "tools", "tool_calls", "function_call", "weight")
"""Columns of a row, or keys of a message, that change what is to be learned; with the values of NOTHING they do not."""
NOTHING: tuple[Any, ...] = (None, [], "", 1)
TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
INPUT_SEPARATOR = "\n\n"


def read(row: Row, name: Format | None, kind: Kind) -> tuple[Format, list[Row]]:
    """The format of a row (recognised where `name` is None) and the rows of type `kind` that it holds: one, or of
    seeds and trees several. Errors: Misfit."""
    found = name or recognise(row)
    if unread := _unread(row):
        raise Misfit(f"column not read: {unread!r}")
    if found == "tree":
        if kind == "preference":
            return found, [_pair(*pair) for pair in trees.pairs(row)]
        return found, [_of_conversation(trees.best(row), kind)]
    if found in ("preference", "transcripts"):
        if kind not in ("preference", "prompt"):
            raise Misfit(f"pair: a pair of answers ({found}) where rows of {kind} are wanted")
        pair = _transcripts(row) if found == "transcripts" else _preference(row)
        return found, [_pair(*pair) if kind == "preference" else _of_conversation(pair[0], kind)]
    if found == "prompt" and kind != "prompt":
        raise Misfit(f"no answer: a prompt alone, where rows of {kind} are wanted")
    if kind == "preference":
        raise Misfit(f"no pair: a row of format {found} has one answer, rows of preference need two")
    return found, [_of_conversation(messages, kind) for messages in CONVERSATIONS[found](row)]


def recognise(row: Row) -> Format:
    """Errors: Misfit naming the row's columns."""
    there = {column for column, value in row.items() if value is not None}
    if {"chosen", "rejected"} <= there:
        texts = isinstance(row["chosen"], str) and "prompt" not in there
        return "transcripts" if texts else "preference"
    if "messages" in there:
        return "messages"
    if "conversations" in there:
        return "sharegpt"
    if {"prompt", "completion"} <= there:
        return "completion"
    if {"instruction", "output"} <= there:
        return "alpaca"
    if {"instruction", "instances"} <= there:
        return "seeds"
    if isinstance(row.get("prompt"), dict) and "replies" in row["prompt"]:
        return "tree"
    if isinstance(row.get("prompt"), str | list):
        return "prompt"
    named = ", ".join(sorted(there)) or "none"
    raise Misfit(
        f"no format: none of {', '.join(get_args(Format))} has the columns {named}; `columns` says which is which"
    )


def _unread(of: Row) -> str | None:
    return next((key for key in UNREAD if of.get(key) not in NOTHING), None)


def _of_conversation(messages: Messages, kind: Kind) -> Row:
    if kind == "prompt":
        messages = up_to_user(messages)
    check_turns(messages)
    if kind == "prompt":
        return {"prompt": messages}
    if messages[-1]["role"] != "assistant":
        raise Misfit(f"turns: the last is {messages[-1]['role']}, not assistant")
    return {"messages": messages} if kind == "messages" else {"prompt": messages[:-1], "completion": messages[-1:]}


def _pair(prompt: Messages, chosen: Messages, rejected: Messages) -> Row:
    for name, answer in (("chosen", chosen), ("rejected", rejected)):
        if not answer or answer[0]["role"] != "assistant":
            raise Misfit(f"turns: {name} does not begin with the assistant's answer to the prompt")
        if answer[-1]["role"] != "assistant" or any(message["role"] == "user" for message in answer):
            raise Misfit(f"turns: {name} goes on after the answer")
        check_turns([*prompt, *answer])
    if chosen == rejected:
        raise Misfit("same answer: chosen and rejected do not differ")
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def check_turns(messages: Messages) -> None:
    """What a chat template can render: a system message first or not at all, then the user, no two turns of the user
    or of the assistant in a row, no turn without a text. Errors: Misfit."""
    before = "system"
    for number, message in enumerate(messages, start=1):
        role = message["role"]
        if not message["content"].strip():
            raise Misfit(f"empty text: turn {number}, of {role}")
        first = number == 1 or (number == 2 and before == "system")
        if role == "system" and number > 1:
            raise Misfit(f"turns: {number} is system, not the first")
        if first and role not in ("system", "user"):
            raise Misfit(f"turns: {number} is {role}, before the user's first")
        if role == before and role in ("user", "assistant"):
            raise Misfit(f"turns: {number} is {role}, as the one before")
        before = role
    if before == "system":
        raise Misfit("turns: none of a user")


def messages_of(value: Any, column: str, role_key: str = "role", text_key: str = "content") -> Messages:
    """Messages of role and content alone, an empty system message left out. Errors: Misfit."""
    if not isinstance(value, list) or not value:
        raise Misfit(f"not messages: {column} is {type(value).__name__ if value else 'empty'}")
    found = []
    for number, message in enumerate(value, start=1):
        role = message.get(role_key) if isinstance(message, dict) else None
        role = SPEAKERS.get(role, role) if role_key == "from" and isinstance(role, str) else role
        if role not in ROLES:
            raise Misfit(f"role: turn {number} of {column} has {role!r}, not {', '.join(ROLES)}")
        if unread := _unread(message):
            raise Misfit(f"column not read: {unread!r} of turn {number}")
        content = message.get(text_key)
        if not isinstance(content, str):
            raise Misfit(f"not a text: turn {number} of {column} is {type(content).__name__}")
        if role != "system" or content.strip():
            found.append({"role": role, "content": content})
    if not found:
        raise Misfit(f"not messages: {column} is an empty system message alone")
    return found


def _said(value: Any, column: str, role: str) -> Messages:
    """A column that is a text of `role`, or messages."""
    return [{"role": role, "content": value}] if isinstance(value, str) else messages_of(value, column)


def _with_system(row: Row, messages: Messages) -> Messages:
    """Alpaca's and ShareGPT's kin keep the system message in a column of its own."""
    system = row.get("system")
    if not system:
        return messages
    if not isinstance(system, str) or (messages and messages[0]["role"] == "system"):
        raise Misfit("turns: the column system is no text, or a second system message")
    return [{"role": "system", "content": system}, *messages]


def _messages(row: Row) -> list[Messages]:
    return [_with_system(row, messages_of(row.get("messages"), "messages"))]


def _sharegpt(row: Row) -> list[Messages]:
    return [_with_system(row, messages_of(row.get("conversations"), "conversations", "from", "value"))]


def _completion(row: Row) -> list[Messages]:
    prompt = _said(row.get("prompt"), "prompt", "user")
    return [_with_system(row, prompt + _said(row.get("completion"), "completion", "assistant"))]


def _prompt(row: Row) -> list[Messages]:
    return [_with_system(row, _said(row.get("prompt"), "prompt", "user"))]


def _alpaca(row: Row) -> list[Messages]:
    return [_with_system(row, _task(row.get("instruction"), row))]


def _seeds(row: Row) -> list[Messages]:
    instances = row.get("instances")
    if not isinstance(instances, list) or not instances or not all(isinstance(each, dict) for each in instances):
        raise Misfit(f"not instances: a list of input and output was expected, got {type(instances).__name__}")
    return [_task(row.get("instruction"), instance) for instance in instances]


def _task(instruction: Any, instance: Row) -> Messages:
    texts = {"instruction": instruction, "input": instance.get("input") or "", "output": instance.get("output")}
    for column, value in texts.items():
        if not isinstance(value, str):
            raise Misfit(f"not a text: {column} is {type(value).__name__}")
    asked = INPUT_SEPARATOR.join(text for text in (texts["instruction"], texts["input"]) if text.strip())
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": texts["output"]}]


CONVERSATIONS: dict[Format, Callable[[Row], list[Messages]]] = {
    "messages": _messages,
    "sharegpt": _sharegpt,
    "completion": _completion,
    "alpaca": _alpaca,
    "seeds": _seeds,
    "prompt": _prompt,
}


def _preference(row: Row) -> tuple[Messages, Messages, Messages]:
    chosen, rejected = (_said(row.get(name), name, "assistant") for name in ("chosen", "rejected"))
    stated = _said(row["prompt"], "prompt", "user") if row.get("prompt") is not None else []
    if chosen[0]["role"] == rejected[0]["role"] == "assistant":
        return _with_system(row, stated), chosen, rejected
    prompt, chosen, rejected = _part(chosen, rejected)
    if stated and prompt[-len(stated) :] != stated:
        raise Misfit("other prompt: chosen and rejected do not begin with the column prompt")
    return _with_system(row, prompt), chosen, rejected


def _transcripts(row: Row) -> tuple[Messages, Messages, Messages]:
    return _part(_dialogue(row.get("chosen"), "chosen"), _dialogue(row.get("rejected"), "rejected"))


def _part(first: Messages, second: Messages) -> tuple[Messages, Messages, Messages]:
    """(what both begin with, what is left of the first, of the second); of two that are equal their last."""
    shared = 0
    while shared < min(len(first), len(second)) and first[shared] == second[shared]:
        shared += 1
    if shared == len(first) == len(second):
        shared -= 1
    return first[:shared], first[shared:], second[shared:]


def _dialogue(text: Any, column: str) -> Messages:
    if not isinstance(text, str) or TURN.match(text) is None:
        raise Misfit(f"not a transcript: {column} does not begin with Human: or Assistant:")
    _, *parts = TURN.split(text)
    roles = ({"Human": "user", "Assistant": "assistant"}[speaker] for speaker in parts[::2])
    return [{"role": role, "content": said.strip()} for role, said in zip(roles, parts[1::2], strict=True)]
