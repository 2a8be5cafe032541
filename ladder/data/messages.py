"""Parse messages of published rows into role and content, with optional `reasoning_content` and `train`.

A message is {"role", "content"}. `reasoning_content` is the reasoning of an assistant's turn. `train` is present only
if it is false: the turn is context and is not trained on.
"""

from collections.abc import Collection
from typing import Any

from ladder.chat.encode import ROLES, Messages
from ladder.data import columns
from ladder.data.column_names import ENDINGS, MESSAGE_REASONING, PREFIXES, TRAINED, WEIGHTS
from ladder.data.columns import Unread, empty, plain
from ladder.data.jsonl import Row
from ladder.pipeline.errors import InvalidRow

ROLE_KEYS = ("role", "from", "speaker")
TEXT_KEYS = ("content", "value", "text")
_OF_ROLE = {
    "user": ("user", "human", "prompter", "customer", "person", "usr"),
    "assistant": (
        *("assistant", "gpt", "chatgpt", "bot", "bard", "bing", "model", "ai", "llm", "claude", "chatbot", "gpt4"),
        *("gpt-4", "gpt3", "gpt-3.5", "gpt35", "chatbot", "asst", "assistant_response"),
    ),
    "system": ("system", "developer", "system_prompt", "sys"),
    "tool": ("tool", "function", "observation", "tool_response", "function_response", "ipython", "environment"),
    "reasoning": ("reasoning", "thinking", "thought", "thoughts", "analysis"),
}
SPEAKERS = {name: role for role, names in _OF_ROLE.items() for name in names}
"""Map from a speaker's lower-case name to its role. A `reasoning` turn is joined to the next assistant turn."""
CHANNELS = {"final": "assistant", "analysis": "reasoning"}
"""Harmony channels of assistant messages. The `commentary` channel is missing because it calls tools."""
RECIPIENTS = ("all", "user", "assistant")
TEXT_PARTS = ("text", "input_text", "output_text")
REASONING_PARTS = ("thinking", "reasoning", "reasoning_text", "thought")
PART_KEYS = ("text", "content", "thinking", "reasoning", "thought")


def messages_of(value: Any, column: str, ignore: Collection[str] = ()) -> Messages:
    """Parse the messages of a column; an empty system message is dropped.

    Errors: InvalidRow naming the turn and its key.
    """
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list) or not value:
        raise InvalidRow(f"not messages: {column} is {type(value).__name__ if value else 'empty'}")
    found: Messages = []
    thoughts: list[str] = []
    untrained: set[bool] = set()
    for number, message in enumerate(value, start=1):
        place = f"turn {number} of {column}"
        if not isinstance(message, dict):
            raise InvalidRow(f"not a message: {place} is {type(message).__name__}, not an object of role and content")
        role, text, reasoning, learned = _message(_canonical(message), place, ignore)
        if role == "reasoning":
            thoughts.append(text)
            untrained.add(learned)
            continue
        if thoughts:
            if role != "assistant" or reasoning or untrained != {learned}:
                raise InvalidRow(f"reasoning: before {place}, which is not its answer or has other flags or reasoning")
            reasoning, thoughts, untrained = "\n\n".join(thoughts), [], set()
        if role != "system" or text.strip():
            found.append(
                {
                    "role": role,
                    "content": text,
                    **({"reasoning_content": reasoning} if reasoning else {}),
                    **({} if learned else {"train": False}),
                }
            )
    if thoughts:
        raise InvalidRow(f"reasoning: {column} ends with reasoning, without the answer")
    if not found:
        raise InvalidRow(f"not messages: {column} is only an empty system message")
    return found


def _canonical(message: Row) -> Row:
    """Rename the role and text keys to lower case."""
    if message.keys() & _SHORT.keys() >= {"role", "content"}:
        return message
    return {_SHORT.get(name.lower(), name) if name.lower() not in message else name: message[name] for name in message}


_SHORT = {name: name for name in (*ROLE_KEYS, *TEXT_KEYS)}


def _message(message: Row, place: str, ignore: Collection[str]) -> tuple[str, str, str, bool]:
    """Parse one message. Returns (role, text, reasoning, whether it is trained on)."""
    role_key, role = _role(message, place)
    text_key = _text_key(message, place)
    if len(message) == 2 and isinstance(message[text_key], str):
        return role, message[text_key], "", True
    text, reasoning = _text(message[text_key], f"{text_key!r} of {place}")
    role = _channel(message, role, place, ignore)
    rest = {name: each for name, each in message.items() if name not in ignore and not empty(each)}
    thoughts = {name: each for name, each in rest.items() if plain(name) in MESSAGE_REASONING}
    known = {role_key, text_key, *ROLE_KEYS, *TEXT_KEYS, "channel", "recipient", *thoughts}
    for name, each in message.items():
        if name in ignore or each is None:
            continue
        if columns.is_flag(name) or plain(name) in ENDINGS | PREFIXES:
            known.add(name)
        if plain(name) in ENDINGS and not columns.flag(name, each, place):
            raise InvalidRow(f"flag: {name!r} of {place} is false; the end of every turn is trained")
        if plain(name) in PREFIXES and columns.flag(name, each, place):
            raise InvalidRow(f"flag: {name!r} of {place} is true; an incomplete turn is not trained")
    columns.check(rest, known, (), place)
    reasoning = _reasoning(thoughts, reasoning, place)
    if reasoning and "<think>" in text:
        raise InvalidRow(f"reasoning: {place} has it both in its own key and in {text_key!r}")
    if reasoning and role != "assistant":
        raise InvalidRow(f"reasoning: {place} is of {role}; expected it only in an answer of the assistant")
    return role, text, reasoning, _learned(message, role, place, ignore)


def _role(message: Row, place: str) -> tuple[str, str]:
    keys = [key for key in ROLE_KEYS if message.get(key) is not None]
    if not keys:
        there = next((key for key in ROLE_KEYS if key in message), None)
        if there:
            raise InvalidRow(f"role: {there!r} of {place} is null")
        raise InvalidRow(f"role: {place} has no key {_listed(ROLE_KEYS)}; its keys are {_keys(message)}")
    roles = []
    for key in keys:
        named = message[key]
        role = SPEAKERS.get(named.strip().lower()) if isinstance(named, str) else None
        if role is None:
            raise InvalidRow(f"role: {key!r} of {place}: expected one of {', '.join(ROLES)}, got {named!r:.60}")
        roles.append(role)
    if len(set(roles)) > 1:
        raise InvalidRow(f"role: {_listed(keys)} of {place} contradict each other")
    return keys[0], roles[0]


def _text_key(message: Row, place: str) -> str:
    keys = [key for key in TEXT_KEYS if message.get(key) is not None]
    if len(keys) > 1 and any(message[key] != message[keys[0]] for key in keys):
        raise InvalidRow(f"not a text: {_listed(keys)} of {place} contradict each other")
    if keys:
        return keys[0]
    # A tool call has no text: report the tool call, not the missing text.
    columns.check(message, (*ROLE_KEYS, *TEXT_KEYS, *filter(columns.is_flag, message), *MESSAGE_REASONING), (), place)
    there = next((key for key in TEXT_KEYS if key in message), None)
    if there:
        raise InvalidRow(f"not a text: {there!r} of {place} is null")
    raise InvalidRow(f"not a text: {place} has no key {_listed(TEXT_KEYS)}; its keys are {_keys(message)}")


def _text(value: Any, place: str) -> tuple[str, str]:
    """Return (text, reasoning) of a message's content.

    The texts of a list of parts are concatenated without a separator.
    """
    if isinstance(value, str):
        return value, ""
    parts = [value] if isinstance(value, dict) else value
    if not isinstance(parts, list):
        raise InvalidRow(f"not a text: {place} is {type(value).__name__}")
    texts: list[str] = []
    thoughts: list[str] = []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
            continue
        if not isinstance(part, dict):
            raise InvalidRow(f"not a text: {place} has a part that is {type(part).__name__}")
        kind = part.get("type")
        if kind is not None and kind not in TEXT_PARTS + REASONING_PARTS:
            why = "images, video, audio and files are not supported" if columns.media(str(kind)) else ""
            raise Unread([str(kind)], (), place=f"a part of {place}", why=why or "only text parts are supported")
        keys = [key for key in PART_KEYS if isinstance(part.get(key), str)]
        columns.check(part, ("type", "signature", *keys), (), f"a part of {place}")
        if len(keys) != 1:
            raise InvalidRow(f"not a text: a part of {place} has {'several texts' if keys else 'no text'}")
        (thoughts if kind in REASONING_PARTS else texts).append(part[keys[0]])
    return "".join(texts), "\n\n".join(thoughts)


def _channel(message: Row, role: str, place: str, ignore: Collection[str]) -> str:
    channel, recipient = (None if key in ignore else message.get(key) for key in ("channel", "recipient"))
    if not empty(recipient) and recipient not in RECIPIENTS:
        raise Unread(["recipient"], (), place, f"{recipient!r:.60} is a tool")
    if empty(channel) or role != "assistant":
        return role
    if channel not in CHANNELS:
        raise Unread(["channel"], (), place, f"expected {_listed(CHANNELS)}, got {channel!r:.60}")
    return CHANNELS[channel]


def _reasoning(keys: Row, reasoning: str, place: str) -> str:
    found = [reasoning] if reasoning else []
    for name, value in keys.items():
        text, _ = _text(value, f"{name!r} of {place}") if isinstance(value, str | list) else (None, "")
        if not text:
            raise Unread([name], (), place, f"expected reasoning as a text, got {type(value).__name__}")
        if text not in found:
            found.append(text)
    if len(found) > 1:
        raise InvalidRow(f"reasoning: {_listed(keys)} of {place} differ. Name all but one in `ignore`")
    return found[0] if found else ""


def _learned(message: Row, role: str, place: str, ignore: Collection[str]) -> bool:
    found = columns.learned(message, place, ignore)
    if found is None or role in ("assistant", "reasoning"):
        return found is None or found[1]
    name, learned = found
    if learned and plain(name) in TRAINED - WEIGHTS:
        raise InvalidRow(
            f"flag: {name!r} of {place} marks a turn of {role} as trained; only the assistant's are trained"
        )
    return True


def _listed(names: Collection[str]) -> str:
    return " or ".join(map(repr, names))


def _keys(message: Row) -> str:
    return ", ".join(sorted(map(str, message))) or "none"
