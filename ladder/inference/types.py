"""Sampling parameters, answers and completions, in a module without torch: endpoint clients load no model."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

from ladder.chat.rendering import Messages

EngineName = Literal["auto", "decoder", "padded", "vllm", "endpoint"]
"""Values of the params key `engine`; ladder.inference.engines describes them."""
LocalName = Literal["auto", "decoder", "padded"]
"""Engines of a model in this process: a policy in training, or a judge that computes likelihoods."""


@dataclass(frozen=True)
class Sampling:
    """Sampling parameters: greedy at temperature 0, else softmax sampling with a `top_p` nucleus.

    Nucleus sampling: Holtzman et al. 2020, arXiv:1904.09751. A draw depends only on the seed, the prompt's index and
    the position.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int = 256
    seed: int = 0


@dataclass(frozen=True)
class Answer:
    """An answer: the text, its length in tokens, and whether it ended by itself (not truncated at the limit)."""

    text: str
    tokens: int
    finished: bool
    reasoning: str = ""
    """Reasoning that a server returned separately. A rung's reasoning is part of its text."""


@dataclass(frozen=True)
class Completion:
    """Tokens after a prompt, without the stop token; `finished` is true if a stop token ended them."""

    tokens: list[int]
    finished: bool


Generate = Callable[[list[Messages], Sampling], list[Answer]]
"""Function that answers conversations, each ending with a user turn, in their order: an engine with its progress bar
(ladder.inference.engines.answering)."""
Where = Callable[[int], str]
"""Function from a conversation's index to its file and row, for error messages."""


def place(index: int) -> str:
    """Default name of the conversation at `index` in an error, if its file is not known."""
    return f"conversation {index + 1}"


def until_stop(tokens: list[int], stop: Collection[int]) -> Completion:
    """Cut tokens before the first one of `stop`."""
    end = next((place for place, token in enumerate(tokens) if token in stop), None)
    return Completion(tokens[:end], end is not None)
