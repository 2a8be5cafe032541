"""Check loss masks before training, and stop a training whose loss would cover the wrong tokens.

The masks come from character positions in the rendering (ladder/chat/encode.py). The gate does not use these
positions. It decodes the learned tokens to text and compares the text with the row, turn by turn.
"""

import unicodedata
from itertools import groupby

from transformers import PreTrainedTokenizerBase

from ladder.chat.rendering import REASONING_TAG, Messages, literals, template_text
from ladder.data.turns import is_learned
from ladder.pipeline.stage import UserError


def mask_gate(ids: list[list[int]], masks: list[list[int]], stop: int) -> None:
    """Check the shape of masks. Shapes: ids and masks [rows][length]; mask values 0 or 1. stop: ID of the stop token.

    Errors: UserError when a row trains no token, or all tokens, or not the stop token of its last answer. A model
    trained without the stop token never learns to end.
    """
    for number, (row, mask) in enumerate(zip(ids, masks, strict=True), start=1):
        if not any(mask):
            raise UserError(f"mask gate: row {number}: no token is trained. Check whether max_length cuts the answer.")
        if all(mask):
            raise UserError(
                f"mask gate: row {number}: every token is trained, including the prompt's. Correct the chat template."
            )
        if row[max(place for place, learned in enumerate(mask) if learned)] != stop:
            raise UserError(f"mask gate: row {number}: the stop token of the last answer is not trained")


def text_gate(
    tokenizer: PreTrainedTokenizerBase, messages: Messages, ids: list[int], mask: list[int], where: str
) -> None:
    """Compare the learned text of a mask with the assistant's turns in the row. Shapes: ids and mask [length].

    Whitespace is ignored. The learned text of each turn must be the turn's reasoning and content, surrounded only by
    literal text of the chat template. Errors: UserError naming the turn and the first text that differs.
    """
    learned = [
        str(tokenizer.decode([ids[place] for place, _ in run], clean_up_tokenization_spaces=False))
        for trained, run in groupby(enumerate(mask), key=lambda pair: pair[1])
        if trained
    ]
    turns = [turn for turn, message in enumerate(messages) if is_learned(message)]
    if len(learned) != len(turns):
        raise UserError(
            f"{where}: mask gate: expected {len(turns)} trained passages, one per answer, got {len(learned)}"
        )
    around = [squeezed(text) for text in literals(template_text(tokenizer))] + [squeezed(str(tokenizer.eos_token))]
    for turn, text in zip(turns, learned, strict=True):
        _compare(squeezed(text), messages[turn], around, f"{where}: mask gate: turn {turn + 1}")


def _compare(text: str, message: dict[str, object], around: list[str], where: str) -> None:
    """Check one turn: its reasoning, then its content, with only the template's literal text around them."""
    said = f"{message.get('reasoning_content') or ''}<think>{message['content']}"
    place = 0
    for part in filter(None, map(squeezed, REASONING_TAG.split(said))):
        found = text.find(part, place)
        if found < 0:
            raise UserError(f"{where}: expected trained tokens for {part[:80]!r}, got {text[place : place + 80]!r}")
        _check_template_text(text[place:found], around, where, begun=place == 0)
        place = found + len(part)
    _check_template_text(text[place:], around, where)


def _check_template_text(text: str, around: list[str], where: str, *, begun: bool = False) -> None:
    """Reject text that the template does not contain.

    With `begun`, the first literal may have started in the prompt.
    """
    rest = _without(REASONING_TAG.sub("", text), around)
    if rest and begun:
        ends = [own[cut:] for own in around for cut in range(1, len(own)) if text.startswith(own[cut:])]
        rest = _without(text[len(max(ends, key=len, default="")) :], around)
    if rest:
        raise UserError(f"{where}: {rest[:80]!r} is trained, but neither the answer nor the chat template contains it")


def _without(text: str, around: list[str]) -> str:
    """Strip literal text of the template from the beginning of a text, repeatedly."""
    while known := next((own for own in around if own and text.startswith(own)), None):
        text = text[len(known) :]
    return text


def squeezed(text: str) -> str:
    """Remove whitespace and normalize to NFKC, Unicode's compatibility form, which some tokenizers write."""
    plain = "".join(text.split())
    return plain if plain.isascii() else unicodedata.normalize("NFKC", plain)
