"""Engines of a model in this process, which read and write token ids; for endpoints see ladder.inference.client."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from ladder.chat.encode import prompt_tokens
from ladder.chat.rendering import Messages
from ladder.inference.engine import decode
from ladder.inference.snapshot import Snapshot
from ladder.inference.types import Answer, Completion, LocalName, Sampling, Where, place
from ladder.models.checkpoint import Model
from ladder.verifiers.reasoning import marks, opens_reasoning

LONGEST_MARK = 24
"""Number of tokens at a prompt's end in which an opening reasoning mark is searched."""


class TokenEngine(ABC):
    """Engine that completes token ids; conversations are rendered and tokenized here, identically for each one."""

    tokenizer: PreTrainedTokenizerBase

    @abstractmethod
    def complete(
        self,
        prompts: list[list[int]],
        sampling: Sampling,
        *,
        first: int = 0,
        snapshot: Snapshot | None = None,
        progress: str = "",
    ) -> list[Completion]:
        """Complete each prompt [prompts][length] up to the tokenizer's stop token.

        `first` is the offset of these prompts among all prompts of the seed. `snapshot` keeps the state of an
        unfinished run, if the engine can resume one.
        """
        ...

    def generate(
        self,
        prompts: Sequence[Messages],
        sampling: Sampling,
        *,
        first: int = 0,
        snapshot: Snapshot | None = None,
        progress: str = "",
        where: Where = place,
    ) -> list[Answer]:
        """Answer conversations, in the order given.

        `first` and `snapshot` are as in `complete`. `where` maps a conversation's index, counted from `first`, to its
        file and row for an error.
        """
        if not prompts:
            return []
        tokens = [
            prompt_tokens(self.tokenizer, messages, where(first + index)) for index, messages in enumerate(prompts)
        ]
        completions = self.complete(tokens, sampling, first=first, snapshot=snapshot, progress=progress)
        return spoken(self.tokenizer, completions, tokens)


class LocalEngine(TokenEngine):
    """Engine of a loaded model: the decoder, or padded batches.

    `model` is a causal language model of transformers, or a PeftModel around one; it may be in training.
    """

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, engine: LocalName = "auto") -> None:
        self.model, self.tokenizer, self.engine = model, tokenizer, engine

    def complete(
        self,
        prompts: list[list[int]],
        sampling: Sampling,
        *,
        first: int = 0,
        snapshot: Snapshot | None = None,
        progress: str = "",
    ) -> list[Completion]:
        stop = [self.tokenizer.eos_token_id]
        return decode(
            self.model,
            prompts,
            sampling,
            stop=stop,
            first=first,
            snapshot=snapshot,
            progress=progress,
            engine=self.engine,
        )


def engine_of(model: Model, engine: LocalName = "auto") -> LocalEngine:
    """Return the engine of a loaded rung."""
    return LocalEngine(model.model, model.tokenizer, engine)


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
