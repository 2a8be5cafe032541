"""Answers to conversations, in process from a rung; ladder.client asks an endpoint for them."""

from transformers import PreTrainedTokenizerBase

from ladder.answering import Answer, Sampling
from ladder.chat import Messages, prompt_tokens
from ladder.decode import Completion, decode
from ladder.models import Model
from ladder.snapshots import Snapshot


def answer(
    model: Model,
    conversations: list[Messages],
    sampling: Sampling,
    *,
    first: int = 0,
    snapshot: Snapshot | None = None,
    progress: str,
) -> list[Answer]:
    """Let a rung answer each conversation; results stand in the order given. `first` and `snapshot` as in `decode`."""
    if not conversations:
        return []
    prompts = [prompt_tokens(model.tokenizer, messages) for messages in conversations]
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
