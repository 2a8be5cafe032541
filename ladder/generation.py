"""Answers to conversations, in process from a rung; ladder.client asks an endpoint for them."""

from collections.abc import Callable

from transformers import PreTrainedTokenizerBase

from ladder.answering import Answer, Sampling
from ladder.chat import Messages, prompt_tokens
from ladder.decode import Completion, decode
from ladder.models import Model
from ladder.snapshots import Snapshot


def place(index: int) -> str:
    """What an error calls the conversation at `index` where its file is not known."""
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
    """Let a rung answer each conversation; the results keep the order. `first` and `snapshot` as in `decode`.

    `where` names a conversation's file and row for an error, by its index counted from `first`.
    """
    if not conversations:
        return []
    prompts = [
        prompt_tokens(model.tokenizer, messages, where(first + index)) for index, messages in enumerate(conversations)
    ]
    completions = decode(
        model.model, prompts, sampling, stop=[model.stop], first=first, snapshot=snapshot, progress=progress
    )
    return spoken(model.tokenizer, completions)


def spoken(tokenizer: PreTrainedTokenizerBase, completions: list[Completion]) -> list[Answer]:
    """Tokens as answers, alike for every engine whose tokens we are given."""
    texts = tokenizer.batch_decode([item.tokens for item in completions], skip_special_tokens=True)
    return [
        Answer(text.strip(), len(item.tokens), item.finished) for text, item in zip(texts, completions, strict=True)
    ]
