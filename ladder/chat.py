"""Conversations as tokens: one rendering for training and for generation, and the mask of what is trained."""

import hashlib
import json
from typing import Any

from transformers import PreTrainedTokenizerBase

from ladder.rows import Row
from ladder.run import Refused

Messages = list[dict[str, Any]]
ROLES = ("system", "user", "assistant", "tool")


def conversation(row: Row, where: str) -> Messages:
    """The messages of a row of TRL's types `messages` or `prompt, completion`. Errors: Refused naming the row."""
    messages = row.get("messages")
    if messages is None and isinstance(row.get("prompt"), list) and isinstance(row.get("completion"), list):
        messages = row["prompt"] + row["completion"]
    return check_messages(messages, where)


def check_messages(messages: Any, where: str) -> Messages:
    """Refuse what is not a list of {"role": system, user or assistant, "content": text}."""
    if not isinstance(messages, list) or not messages:
        what = "expected `messages`, or `prompt` and `completion`, as lists of messages"
        raise Refused(f"{where}: {what}; `source` makes them of other forms")
    for message in messages:
        good = isinstance(message, dict) and message.get("role") in ROLES and isinstance(message.get("content"), str)
        if not good:
            raise Refused(f"{where}: expected a message with a role of {', '.join(ROLES)} and a text, got {message!r}")
    return messages


def up_to_user(messages: Messages) -> Messages:
    """What stands before the last answer: the messages up to the user's last one; none where the user says nothing."""
    last = max((turn for turn, message in enumerate(messages, 1) if message["role"] == "user"), default=0)
    return messages[:last]


def render(tokenizer: PreTrainedTokenizerBase, messages: Messages, *, answer: bool) -> str:
    """The conversation as text; with `answer`, up to where the assistant is to speak."""
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=answer))


def tokens(tokenizer: PreTrainedTokenizerBase, messages: Messages, *, answer: bool) -> list[int]:
    """The conversation as tokens. The template writes every special token, so none is added here."""
    return list(tokenizer(render(tokenizer, messages, answer=answer), add_special_tokens=False).input_ids)


def prompt_tokens(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> list[int]:
    """What the model reads before it answers, in training and in generation alike."""
    return tokens(tokenizer, messages, answer=True)


def encode(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> tuple[list[int], list[int]]:
    """Tokens of a conversation and the mask of those to learn: each assistant turn up to its stop token.

    Returns (input_ids, mask), both [length]; what the template writes after the last stop token is left out.
    Errors: Refused when there is no assistant turn to learn, when a turn does not end with the stop token, or
    when the template renders a prompt in another way before an answer than inside a conversation (then the
    model would be trained on a context that it never meets at inference).
    """
    ids = tokens(tokenizer, messages, answer=False)
    mask = [0] * len(ids)
    end = 0
    for turn, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prefix = prompt_tokens(tokenizer, messages[:turn])
        start = len(prefix)
        if ids[:start] != prefix:
            raise Refused(
                f"the chat template renders turn {turn + 1} in another way in a conversation than before an answer; "
                "use a template whose prompt is a prefix of the conversation"
            )
        if tokenizer.eos_token_id not in ids[start:]:
            raise Refused(f"no stop token {tokenizer.eos_token!r} after assistant turn {turn + 1}: mend the template")
        end = ids.index(tokenizer.eos_token_id, start) + 1
        mask[start:end] = [1] * (end - start)
    if not any(mask):
        raise Refused("nothing to learn: the conversation has no assistant turn")
    return ids[:end], mask[:end]


def completion_tokens(tokenizer: PreTrainedTokenizerBase, prompt: Messages, answer: str) -> tuple[list[int], list[int]]:
    """A prompt and one answer to it: (prompt tokens, answer's tokens with the stop token)."""
    ids, mask = encode(tokenizer, [*prompt, {"role": "assistant", "content": answer}])
    start = len(prompt_tokens(tokenizer, prompt))
    return ids[:start], ids[start:]


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """sha256 of what decides its tokens; padding and truncation, which are a caller's, left out."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state.pop("padding"), state.pop("truncation")
    state["special"] = [tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token]
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def template_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """sha256 of the chat template. Errors: Refused when there is none."""
    template = tokenizer.chat_template
    if not isinstance(template, str):
        raise Refused("the tokenizer has no chat template: set base.chat_template in params.yaml to a .jinja file")
    return hashlib.sha256(template.encode()).hexdigest()


def mask_gate(ids: list[list[int]], masks: list[list[int]], stop: int) -> None:
    """Stop a run that would learn the wrong tokens. Shapes: ids and masks [rows][length], 0 or 1.

    Errors: Refused when a row trains no token, or all of them, or leaves the stop token of an answer untrained
    (such a model never learns to end).
    """
    for number, (row, mask) in enumerate(zip(ids, masks, strict=True), start=1):
        if not any(mask):
            raise Refused(f"mask gate: row {number} trains no token; is the answer cut off by max_length?")
        if all(mask):
            raise Refused(f"mask gate: row {number} trains every token, the prompt's too; mend the chat template")
        ends = [place for place, learned in enumerate(mask) if learned and not any(mask[place + 1 : place + 2])]
        if any(row[place] != stop for place in ends):
            raise Refused(f"mask gate: row {number} has an answer whose stop token is not trained")


def mask_sample(tokenizer: PreTrainedTokenizerBase, ids: list[int], mask: list[int]) -> str:
    """A row for reading: what is trained stands between ⟦ and ⟧, all special tokens are written out."""
    text, inside = "", 0
    for token, learned in zip(ids, mask, strict=True):
        text += ("⟦" if learned > inside else "⟧" if learned < inside else "") + str(tokenizer.decode([token]))
        inside = learned
    return text + ("⟧" if inside else "")
