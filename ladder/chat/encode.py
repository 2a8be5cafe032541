"""Tokenize conversations for training and generation with the same rendering, and compute the loss mask."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ladder.chat.rendering import Messages, Rendering, control_strings, prefix, render, template_text, trace
from ladder.chat.segments import Span, parts, read, read_on
from ladder.data.jsonl import Row
from ladder.data.turns import is_learned
from ladder.pipeline.stage import UserError

if TYPE_CHECKING:  # work on rows imports this module, and transformers imports torch
    from transformers import PreTrainedTokenizerBase

T = TypeVar("T")
ROLES = ("system", "user", "assistant", "tool")
MESSAGE_KEYS = ("role", "content", "reasoning_content", "train")
"""Allowed keys of a message. `train: false` keeps an assistant's turn as context and excludes it from the loss."""
NOTHING: tuple[Any, ...] = (None, "", [], {})
"""Empty values, accepted under any other key. Tables write a key in every message if one message has it."""


def conversation(row: Row, where: str) -> Messages:
    """Return the messages of a row of TRL's types `messages` or `prompt, completion`.

    Errors: UserError naming the row.
    """
    messages = row.get("messages")
    if messages is None and isinstance(row.get("prompt"), list) and isinstance(row.get("completion"), list):
        messages = row["prompt"] + row["completion"]
    return check_messages(messages, where)


def check_messages(messages: Any, where: str) -> Messages:
    """Check that messages are a list of {"role": system, user, assistant or tool, "content": text}. Errors: UserError.

    A message may also have `reasoning_content` (text) and `train` (true or false). Any other key with a value is an
    error, because it would be dropped silently.
    """
    if not isinstance(messages, list) or not messages:
        what = "expected `messages`, or `prompt` and `completion`, as lists of messages"
        raise UserError(f"{where}: {what}. The stage `source` converts other formats.")
    for number, message in enumerate(messages, start=1):
        good = isinstance(message, dict) and message.get("role") in ROLES and isinstance(message.get("content"), str)
        if not good:
            raise UserError(
                f"{where}: expected a message with content as text and a role of {', '.join(ROLES)}, got {message!r}"
            )
        for key, value in message.items():
            if key not in MESSAGE_KEYS and value not in NOTHING:
                raise UserError(f"{where}: turn {number}: expected keys {', '.join(MESSAGE_KEYS)}, got {key!r}")
        if not isinstance(message.get("reasoning_content") or "", str) or message.get("train") not in (
            None,
            True,
            False,
        ):
            raise UserError(f"{where}: turn {number}: expected reasoning_content as text, and train as true or false")
    return messages


HEADER = re.compile(
    r"(?:<s>|<bos>|<\|begin_of_text\|>)?\s*(?:<[^<>\s]+>\s*(?:system|user|assistant|model|human)\s*(?:\n|<)"
    r"|<\|(?:system|user|assistant)\|>)"
)
"""Beginning of a turn in a chat template: a special token, a role, and a line break or another token."""


class LostText(UserError):
    """Error for a row with assistant text that the chat template leaves out."""


def each_row(rows: list[Row], data: Path, read: Callable[[Row, str], T]) -> list[T]:
    """Return `read(row, where)` for every row of a file.

    Errors: UserError as raised by `read`. LostText, with the number of affected rows, if the chat template leaves out
    assistant text.
    """
    found, lost = [], []
    for number, row in enumerate(rows, start=1):
        try:
            found.append(read(row, f"{data}: row {number}"))
        except LostText as refusal:
            lost.append(str(refusal))
    if lost:
        raise LostText(
            f"{lost[0]}; {len(lost)} of {len(rows)} rows lose text this way. Use a template that keeps it "
            "(base.chat_template: trl:NAME_training), or mark these turns with `train: false`."
        )
    return found


def up_to_user(messages: Messages) -> Messages:
    """Return the messages up to the last user message, which precede the last answer; none without a user message."""
    last = max((turn for turn, message in enumerate(messages, 1) if message["role"] == "user"), default=0)
    return messages[:last]


def prompt_tokens(tokenizer: PreTrainedTokenizerBase, messages: Messages, where: str = "") -> list[int]:
    """Return the token IDs that the model reads before it answers, the same in training and in generation.

    A special token's text inside a message is tokenized as plain text, never as the special token.

    Errors: UserError when the template rejects the conversation, or drops text of the system, the user or a tool.
    """
    check_plain(tokenizer, [message for message in messages if message["role"] != "assistant"], where)
    text = render(tokenizer, messages, answer=True, where=where)
    control = control_strings(tokenizer)
    follow = any(
        message["role"] == "assistant" or control.search(message["content"]) or message["content"].strip() not in text
        for message in messages
    )
    if not follow:
        return read(tokenizer, text)
    found = trace(tokenizer, messages, answer=True, where=where)
    _check_context(messages, found, where)
    spans = _spans(tokenizer, messages, found)
    return [token for part in parts(tokenizer, found, sorted(spans.values())) for token in part]


def encode(
    tokenizer: PreTrainedTokenizerBase, messages: Messages, where: str = "", *, last_only: bool = False
) -> tuple[list[int], list[int]]:
    """Tokenize a conversation and compute the loss mask. Returns (input_ids, mask), both of shape [length].

    The mask covers the tokens that the model writes at inference, for each assistant turn that is not marked `train:
    false` (with `last_only`, for the last message alone). A turn's mask starts at the end of the generation prompt
    and stops at the end of the turn's text. It includes the stop token if the template writes it there. Text that the
    template writes after the last learned token is left out.

    Errors: UserError, naming `where` and the turn, in these cases:
    - there is nothing to learn
    - the conversation's last turn has no stop token
    - the template drops or alters text of a learned turn, the system, the user or a tool
    - the template renders a prompt differently before an answer than inside a conversation, so that the model would
      be trained on a context that it never sees at inference
    """
    found = trace(tokenizer, messages, answer=False, where=where)
    _check_context(messages, found, where)
    last = len(messages) - 1
    learned = [turn for turn, message in enumerate(messages) if is_learned(message) and not (last_only and turn < last)]
    if not learned:
        raise UserError(f"{prefix(where)}nothing to learn: expected an assistant turn that is trained")
    spans = _spans(tokenizer, messages, found)
    for turn in learned:
        _check_learned(tokenizer, found, turn, spans.get(turn), where)
    if last in learned and not found.text[: spans[last][1]].endswith(str(tokenizer.eos_token)):
        raise UserError(
            f"{prefix(where)}assistant turn {last + 1}: expected the stop token {tokenizer.eos_token!r} after it. "
            "Correct the chat template."
        )
    order = sorted(spans, key=lambda turn: spans[turn])
    cut = parts(tokenizer, found, [spans[turn] for turn in order])
    ids: list[int] = []
    mask: list[int] = []
    for number, part in enumerate(cut[: 2 * order.index(learned[-1]) + 2]):  # answers have odd indices
        ids += part
        mask += [int(number % 2 == 1 and order[number // 2] in learned)] * len(part)
    if not any(mask):
        raise UserError(f"{prefix(where)}nothing to learn: the answer has no token")
    return ids, mask


def completion_tokens(
    tokenizer: PreTrainedTokenizerBase, prompt: Messages, answer: str | dict[str, Any], where: str = ""
) -> tuple[list[int], list[int]]:
    """Tokenize a prompt and one answer, a text or a message.

    Returns (prompt tokens, answer tokens with the stop token).
    """
    message = {"role": "assistant", "content": answer} if isinstance(answer, str) else {**answer, "train": True}
    ids, mask = encode(tokenizer, [*prompt, message], where, last_only=True)
    start = mask.index(1)
    return ids[:start], ids[start:]


def continued_tokens(tokenizer: PreTrainedTokenizerBase, messages: Messages, beginning: str) -> list[int]:
    """Return the prompt's tokens followed by the tokens of a given beginning of the answer."""
    prompt = prompt_tokens(tokenizer, messages)
    text = render(tokenizer, messages, answer=True)
    whole = read(tokenizer, text + beginning)
    return whole if whole[: len(prompt)] == prompt else prompt + read_on(tokenizer, beginning)


def check_plain(tokenizer: PreTrainedTokenizerBase, messages: Messages, where: str) -> None:
    """Reject text that a chat template already rendered: it begins with the header of a turn. Errors: UserError."""
    control = control_strings(tokenizer)
    for message in messages:
        text = message["content"].lstrip()
        if control.match(text) and HEADER.match(text):
            raise UserError(
                f"{prefix(where)}{message['role']}: expected the plain text of the message, got {text[:40]!r}: a chat "
                "template has rendered it already"
            )


def _check_context(messages: Messages, found: Rendering, where: str) -> None:
    """Reject a template that leaves out text of the system, the user or a tool. Errors: UserError."""
    for turn, message in enumerate(messages):
        written = found.written.get(turn)
        if message["role"] != "assistant" and written is not None and written.missing:
            raise UserError(
                f"{prefix(where)}the chat template leaves out text of turn {turn + 1} ({message['role']}). "
                "Use another template, or base.system: merge for a system message."
            )


def _check_learned(
    tokenizer: PreTrainedTokenizerBase, found: Rendering, turn: int, span: Span | None, where: str
) -> None:
    if missing := found.written[turn].missing:
        raise LostText(
            f"{prefix(where)}the chat template leaves out {missing} characters of assistant turn {turn + 1} (reasoning "
            "of an earlier turn, or a key that the template does not read)"
        )
    if span is None:
        raise UserError(
            f"{prefix(where)}the chat template renders turn {turn + 1} differently within a conversation and before an "
            "answer. Use a template whose prompt is a prefix of the conversation."
        )


def _spans(tokenizer: PreTrainedTokenizerBase, messages: Messages, found: Rendering) -> dict[int, Span]:
    """Return the character spans of the assistant's turns, by turn: from the end of the prompt to the stop token.

    A turn is absent if its prompt does not precede it, for example when a template rewrites the history.
    """
    spans = {}
    for turn, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = render(tokenizer, messages[:turn], answer=True)
        written = found.written[turn]
        if not found.text.startswith(prompt) or (written.start is not None and written.start < len(prompt)):
            continue
        following = [later.start for index, later in found.written.items() if index > turn and later.start is not None]
        end = max(written.end, len(prompt))
        spans[turn] = len(prompt), _stop_end(tokenizer, found, end, min(following, default=len(found.text)))
    return spans


def _stop_end(tokenizer: PreTrainedTokenizerBase, found: Rendering, end: int, following: int) -> int:
    """Return the end of the stop token after a turn's text; `end` if another token or none follows the text."""
    token = control_strings(tokenizer).search(found.text, end)
    if token and token[0] == tokenizer.eos_token and token.start() < following:
        return token.end()
    return end


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the sha256 of everything that determines the tokens.

    Padding and truncation are excluded: callers set them.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state.pop("padding"), state.pop("truncation")
    state["special"] = [tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token]
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def template_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the sha256 of the chat template. Errors: UserError when there is none."""
    return hashlib.sha256(template_text(tokenizer).encode()).hexdigest()


def mask_sample(tokenizer: PreTrainedTokenizerBase, ids: list[int], mask: list[int]) -> str:
    """Format a row for display: learned text is between ⟦ and ⟧, and special tokens are written out."""
    text, inside = "", 0
    for token, learned in zip(ids, mask, strict=True):
        text += ("⟦" if learned > inside else "⟧" if learned < inside else "") + str(tokenizer.decode([token]))
        inside = learned
    return text + ("⟧" if inside else "")
