"""Answers to conversations from a rung in process; for endpoints see ladder.inference.client."""

from collections.abc import Callable

from transformers import PreTrainedTokenizerBase

from ladder.chat.encode import Messages, prompt_tokens
from ladder.inference.engine import Completion, decode
from ladder.inference.snapshot import Snapshot
from ladder.inference.types import Answer, Sampling
from ladder.models.checkpoint import Model
from ladder.verifiers.reasoning import marks, opens_reasoning

LONGEST_MARK = 24
"""Number of tokens at a prompt's end in which an opening reasoning mark is searched."""


def place(index: int) -> str:
    """Default name of the conversation at `index` in an error, if its file is not known."""
    return f"conversation {index + 1}"


def answer(
    model: Model,
    conversations: list[Messages],
    sampling: Sampling,
    *,
    first: int = 0,
    snapshot: Snapshot | None = None,
    progress: str,
    where: Callable[[int], str] = place,
) -> list[Answer]:
    """Answer each conversation with a rung; answers are in the order given.

    `first` and `snapshot` are as in `ladder.inference.engine.decode`. `where` maps a conversation's index, counted from
    `first`, to its file and row for an error.
    """
    if not conversations:
        return []
    prompts = [
        prompt_tokens(model.tokenizer, messages, where(first + index)) for index, messages in enumerate(conversations)
    ]
    completions = decode(
        model.model, prompts, sampling, stop=[model.stop], first=first, snapshot=snapshot, progress=progress
    )
    return spoken(model.tokenizer, completions, prompts)


def spoken(tokenizer: PreTrainedTokenizerBase, completions: list[Completion], prompts: list[list[int]]) -> list[Answer]:
    """Decode completions to answers, identically for every engine that returns tokens; `prompts` precede them."""
    texts = decoded(tokenizer, prompts, [item.tokens for item in completions])
    return [Answer(text, len(item.tokens), item.finished) for text, item in zip(texts, completions, strict=True)]


def decoded(tokenizer: PreTrainedTokenizerBase, prompts: list[list[int]], answers: list[list[int]]) -> list[str]:
    """Decode answers to stripped texts in which ladder.verifiers.reasoning can find the reasoning.

    Special tokens are dropped, except those that mark reasoning (`[THINK]`, `<|channel|>`). If the prompt ends with an
    opening mark, the text starts with that mark.
    """
    special = {number: token.content for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    kept = marks(list(special.values()))
    if kept:
        dropped = {number for number, token in special.items() if token not in kept}
        answers = [[token for token in tokens if token not in dropped] for tokens in answers]
    texts = tokenizer.batch_decode(answers, skip_special_tokens=not kept)
    ends = tokenizer.batch_decode([prompt[-LONGEST_MARK:] for prompt in prompts])
    return [(opens_reasoning(end) + text).strip() for end, text in zip(ends, texts, strict=True)]
