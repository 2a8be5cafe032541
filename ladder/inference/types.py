"""Sampling parameters and answers, without torch: an endpoint is asked by a process that loads no model."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen: greedily at temperature 0, else drawn from the softmax, cut to its `top_p` nucleus
    (Holtzman et al. 2020, arXiv:1904.09751). A draw depends on the seed, the prompt's index and the position alone.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int = 256
    seed: int = 0


@dataclass(frozen=True)
class Answer:
    """What was said: the text, its length in tokens, and whether it ended by itself (not cut at the limit)."""

    text: str
    tokens: int
    finished: bool
    reasoning: str = ""
    """Reasoning that a server sent apart from the text. A rung's reasoning is part of its text."""
