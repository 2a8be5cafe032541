"""Sampling parameters and answers, in a module without torch: endpoint clients load no model."""

from dataclasses import dataclass


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
