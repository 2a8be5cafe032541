"""Tokenize a rendered conversation in parts that begin and end with the assistant's turns.

The text is tokenized as a whole, as at inference, with a new start in two cases. First, where a token would cross the
beginning or end of a turn, for example an answer's leading blank lines and the end of the header: at inference the
model continues a prompt that was tokenized alone. Second, inside a special token's text that a message contains, so
that it stays text: a user who writes `<|im_end|>` does not end the turn.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from ladder.chat.rendering import Rendering, control_strings

if TYPE_CHECKING:  # work on rows imports this module, and transformers imports torch
    from transformers import PreTrainedTokenizerBase


Span = tuple[int, int]


def parts(tokenizer: PreTrainedTokenizerBase, found: Rendering, spans: list[Span]) -> list[list[int]]:
    """Tokenize into 2 * len(spans) + 1 parts: before the first span, the span, after it, and so on.

    Spans must be sorted.
    """
    bounds = [bound for span in spans for bound in span]

    @cache
    def reading(start: int, end: int) -> list[int]:
        piece = found.text[start:end]
        return read(tokenizer, piece) if start == 0 else read_on(tokenizer, piece)

    starts = _starts(reading, [0, *quoted(tokenizer, found)], bounds, len(found.text))
    chunks = [reading(start, end) for start, end in zip(starts, [*starts[1:], len(found.text)], strict=True)]
    counts = []
    for bound in bounds:
        number = bisect_right(starts, bound) - 1
        counts.append(sum(map(len, chunks[:number])) + len(reading(starts[number], bound)))
    tokens = [token for chunk in chunks for token in chunk]
    return [tokens[start:end] for start, end in zip([0, *counts], [*counts, len(tokens)], strict=True)]


def _starts(reading: Callable[[int, int], list[int]], fixed: list[int], bounds: list[int], length: int) -> list[int]:
    """Return where tokenization restarts: at the fixed positions, and at each bound that a token would cross."""
    starts = sorted(set(fixed))
    for bound in bounds:
        place = bisect_right(starts, bound)
        start, end = starts[place - 1], starts[place] if place < len(starts) else length
        before = reading(start, bound)
        if start < bound and reading(start, end)[: len(before)] != before:
            starts.insert(place, bound)
    return starts


def quoted(tokenizer: PreTrainedTokenizerBase, found: Rendering) -> list[int]:
    """Return positions at which the text must be cut so that special tokens' text inside messages stays text.

    The cut is after the first character of the special token's text.
    """
    tokens = control_strings(tokenizer).finditer(found.text)
    return [token.start() + 1 for token in tokens if found.marked[token.start() : token.end()] != token[0]]


def read(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokenize a text. The template writes every special token, so none is added here."""
    return list(tokenizer(text, add_special_tokens=False).input_ids)


def read_on(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokenize a text that continues another one, without the prefix that some tokenizers add to a text."""
    for anchor in _anchors(tokenizer) if text else ():
        before, whole = read(tokenizer, anchor), read(tokenizer, anchor + text)
        if whole[: len(before)] == before:
            return whole[len(before) :]
    return read(tokenizer, text)


@lru_cache(maxsize=64)
def _anchors(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return texts after which a following text is tokenized as a continuation.

    The first is a special token that strips no neighboring blanks and after which the tokenizer adds no prefix.
    Characters follow as a fallback; a text may merge with them.
    """
    special = (
        str(token.content)
        for token in tokenizer.added_tokens_decoder.values()
        if token.special and not (token.rstrip or token.lstrip or token.single_word)
    )
    first = next((token for token in special if read(tokenizer, f"{token};")[1:] == read(tokenizer, ";;")[-1:]), None)
    return [*([first] if first else []), ";", "a", "\n"]
