"""Render a conversation with a chat template, and locate each message's text in the result by position.

A chat template may trim a message, split it at `</think>`, or move or drop its reasoning. The positions are therefore
taken from a second rendering, in which every character of a message is replaced by a private-use mark. Wherever the
two renderings differ, a character of that message was written.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from jinja2 import Environment, TemplateError

from ladder.pipeline.stage import UserError

if TYPE_CHECKING:  # work on rows imports this module, and transformers imports torch
    from transformers import PreTrainedTokenizerBase

Messages = list[dict[str, Any]]
TEMPLATE_ERRORS = (
    TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError, MemoryError
)  # fmt: skip
"""Exceptions that a chat template can raise. It is a third-party program."""
REASONING_KEYS = ("reasoning_content", "thinking", "reasoning", "thought")
"""Message keys from which published templates read reasoning, in order of preference."""
REASONING_TAG = re.compile(
    r"</?(?:think|thinking|thought|reasoning|analysis|seed:think)>|\[/?THINK\]|<\|(?:START|END)_THINKING\|>|◁/?think▷"
)
"""Tags around reasoning. In an assistant's text they count as written by the model, not as quoted text."""
FIRST_MARK = 0xF0000  # private-use plane: not in templates, without case, not whitespace
MARKS = re.compile(f"([{chr(FIRST_MARK)}-{chr(FIRST_MARK + 0xFFFD)}])\\1*")
WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class Written:
    """Position of a message's text in a rendering."""

    start: int | None
    """Position of the first non-whitespace character; None if there is none."""
    end: int
    """One past the last character, including trailing whitespace that the template kept."""
    missing: int
    """Number of non-whitespace characters that the template left out."""


@dataclass(frozen=True)
class Rendering:
    """A conversation as text, with the origin of its parts."""

    text: str
    marked: str
    """The same text with marks for the characters of messages. It equals `text` where the template's own text is."""
    written: dict[int, Written]
    """Positions by message index. A message that could not be traced is absent."""


def render(tokenizer: PreTrainedTokenizerBase, messages: Messages, *, answer: bool, where: str = "") -> str:
    """Render the conversation as text; with `answer`, append the generation prompt.

    Errors: UserError with the template's own message, naming `where`.
    """
    try:
        return _render(tokenizer, _with_reasoning(tokenizer, messages), answer)
    except TEMPLATE_ERRORS as error:
        raise UserError(_refusal(tokenizer, messages, answer, where, error)) from None


def _render(tokenizer: PreTrainedTokenizerBase, messages: Messages, answer: bool) -> str:
    return str(
        tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=answer, strftime_now=_refuse_clock
        )
    )


def _refuse_clock(*_: Any) -> NoReturn:
    raise ValueError("it reads the clock (strftime_now), so equal rows would differ. Set base.clock to a date")


def _refusal(
    tokenizer: PreTrainedTokenizerBase, messages: Messages, answer: bool, where: str, error: BaseException
) -> str:
    said = " ".join(str(error).split())[:300] or type(error).__name__
    hint = ""
    if messages and messages[0]["role"] == "system":
        try:
            _render(tokenizer, _with_reasoning(tokenizer, messages[1:]), answer)
            hint = ". Set base.system: merge to put the system text into the first user turn, or omit it."
        except TEMPLATE_ERRORS:
            pass
    return f"{prefix(where)}the chat template rejects the conversation: {said}{hint}"


def prefix(where: str) -> str:
    """Format the row's location as the prefix of an error message; empty if unknown."""
    return f"{where}: " if where else ""


def _with_reasoning(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> Messages:
    """Reduce messages to role, content, and reasoning under the key that the template reads.

    If there is a key, tagged reasoning at the beginning of an assistant's content is moved to it. Without a key,
    reasoning stays under `reasoning_content`.
    """
    key = _reasoning_key(tokenizer, template_text(tokenizer))
    plain = []
    for message in messages:
        content, reasoning = message["content"], message.get("reasoning_content")
        if key and not reasoning and message["role"] == "assistant":
            reasoning, content = split_reasoning(content)
        kept = {"role": message["role"], "content": content}
        if reasoning:
            kept[key or "reasoning_content"] = reasoning
        plain.append(kept)
    return plain


def split_reasoning(content: str) -> tuple[str, str]:
    """Return (reasoning, answer) of content that begins with one tagged block of reasoning; otherwise ("", content)."""
    tags = list(REASONING_TAG.finditer(content))
    if len(tags) != 2 or content[: tags[0].start()].strip():
        return "", content
    return content[tags[0].end() : tags[1].start()].strip("\n"), content[tags[1].end() :].lstrip("\n")


def template_text(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the chat template. Errors: UserError when there is none."""
    template = tokenizer.chat_template
    if isinstance(template, dict) and "default" in template:
        template = template["default"]
    if not isinstance(template, str):
        names = f" named default, only {', '.join(map(repr, template))}" if isinstance(template, dict) else ""
        raise UserError(f"the tokenizer has no chat template{names}. Set base.chat_template to a file or to trl:NAME.")
    return template


@lru_cache(maxsize=64)
def _reasoning_key(tokenizer: PreTrainedTokenizerBase, template: str) -> str | None:
    """Return the message key whose reasoning this template writes in the last turn; None if it writes none."""
    words = set(re.findall(r"\w+", template))
    for key in (key for key in REASONING_KEYS if key in words):
        turn = {"role": "assistant", "content": "2", key: "PROBE-OF-REASONING"}
        try:
            if "PROBE-OF-REASONING" in _render(tokenizer, [{"role": "user", "content": "1"}, turn], False):
                return key
        except TEMPLATE_ERRORS:
            continue
    return None


@lru_cache(maxsize=64)
def literals(template: str) -> tuple[str, ...]:
    """Return the string literals and data of a template, stripped, the longest first."""
    found = set()
    for _, kind, value in Environment().lex(template):
        if kind == "string":
            value = value[1:-1].encode("ascii", "backslashreplace").decode("unicode-escape")
        if kind in ("string", "data") and value.strip():
            found.add(value.strip())
    return tuple(sorted(found, key=lambda text: (-len(text), text)))


def control_strings(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    """Return a pattern of all texts that the tokenizer reads as special tokens, the longest first."""
    return _control_strings(tokenizer, tokenizer.bos_token, tokenizer.eos_token)


@lru_cache(maxsize=64)
def _control_strings(tokenizer: PreTrainedTokenizerBase, *named: str | None) -> re.Pattern[str]:
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return _any_of(special.union(token for token in named if token))


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern that matches any of these texts, the longest first; without texts it matches nothing."""
    return re.compile("|".join(map(re.escape, sorted(texts, key=lambda text: (-len(text), text)))) or r"(?!)")


@lru_cache(maxsize=64)
def _kept(template: str, control: re.Pattern[str], role: str) -> re.Pattern[str]:
    """Return a pattern of text that a mark must not replace: tags at which a template splits a message's text.

    A control string in a message is quoted text and is replaced, except for reasoning tags of an assistant.
    """
    tags = {text for text in literals(template) if len(text) > 2 and re.search(r"[<\[|◁]", text)}
    own = {text for text in tags if not control.search(text)}
    if role == "assistant":
        own |= {text for text in tags if REASONING_TAG.fullmatch(text)}
        return re.compile("|".join([_any_of(own).pattern, REASONING_TAG.pattern]))
    return _any_of(own)


def _mark(content: str, mark: str, kept: re.Pattern[str] | None = None) -> tuple[str, str, str]:
    """Replace text by marks. Returns (marked content, replaced characters, text after the last replaced character).

    Each character that is neither whitespace nor part of a kept tag is replaced by `mark`.
    """
    marked, replaced, tail, place = "", "", "", 0
    tags = list(kept.finditer(content)) if kept else []
    for start, end in [*((tag.start(), tag.end()) for tag in tags), (len(content), len(content))]:
        between = content[place:start]
        marked += WORD.sub(lambda word: mark * len(word[0]), between) + content[start:end]
        replaced += "".join(between.split())
        last = between.rstrip()
        tail = (between[len(last) :] if last else tail + between) + content[start:end]
        place = end
    return marked, replaced, tail


def trace(tokenizer: PreTrainedTokenizerBase, messages: Messages, *, answer: bool, where: str = "") -> Rendering:
    """Render the conversation and determine the origin of every character.

    A template that computes with a text (its length, its case) cannot be traced. The trace is then limited to the
    assistant's messages and those with a control string. Errors: UserError if that fails too.
    """
    text = render(tokenizer, messages, answer=answer, where=where)
    control = control_strings(tokenizer)
    needed = [
        index
        for index, message in enumerate(messages)
        if message["role"] == "assistant" or control.search(message["content"])
    ]
    for chosen in (range(len(messages)), needed):
        found = _traced(tokenizer, messages, chosen, text, answer)
        if found is not None:
            return found
    raise UserError(f"{prefix(where)}no mask can be derived, because the chat template changes the messages' text")


def _traced(
    tokenizer: PreTrainedTokenizerBase, messages: Messages, chosen: Sequence[int], text: str, answer: bool
) -> Rendering | None:
    control = control_strings(tokenizer)
    template = template_text(tokenizer)
    replaced = list(messages)
    expected: dict[str, str] = {}
    tails: dict[int, str] = {}
    for index in chosen:
        message = messages[index]
        marks = chr(FIRST_MARK + 2 * index), chr(FIRST_MARK + 2 * index + 1)
        content, expected[marks[0]], tails[index] = _mark(
            message["content"], marks[0], _kept(template, control, message["role"])
        )
        replaced[index] = {**message, "content": content}
        if message.get("reasoning_content"):
            reasoning, expected[marks[1]], _ = _mark(message["reasoning_content"], marks[1])
            replaced[index]["reasoning_content"] = reasoning
    try:
        marked = _render(tokenizer, _with_reasoning(tokenizer, replaced), answer)
    except TEMPLATE_ERRORS:
        return None
    runs = _runs(text, marked)
    if runs is None:
        return None
    written = {}
    for index in chosen:
        marks = chr(FIRST_MARK + 2 * index), chr(FIRST_MARK + 2 * index + 1)
        missing = 0
        for mark in marks:
            there, own = "".join(text[start:end] for start, end in runs.get(mark, ())), expected.get(mark, "")
            if len(there) > len(own) or (len(there) == len(own) and there != own):
                return None  # written twice or altered
            missing += len(own) - len(there)
        places = [run for mark in marks for run in runs.get(mark, ())]
        start, end = min((run[0] for run in places), default=None), max((run[1] for run in places), default=0)
        if places and not missing:
            end += len(os.path.commonprefix([text[end:], tails[index]]))
        written[index] = Written(start, end, missing)
    return Rendering(text, marked, written)


def _runs(text: str, marked: str) -> dict[str, list[tuple[int, int]]] | None:
    """Return the (start, end) runs of each mark; None if the texts differ in anything but marks."""
    if len(text) != len(marked):
        return None
    runs: dict[str, list[tuple[int, int]]] = {}
    place = 0
    for run in MARKS.finditer(marked):
        if text[place : run.start()] != marked[place : run.start()]:
            return None
        runs.setdefault(run[1], []).append(run.span())
        place = run.end()
    return runs if text[place:] == marked[place:] else None
