"""Pairwise comparison by a judge: two answers shown in both orders, and the outcome of both verdicts.

Used by preference pairs, judge reliability and pairwise MT-Bench. Verdicts are those of CHOICES
(ladder/judges/parsers.py): "A" for the answer shown first, "B" for the second, "C" for a tie, None if missing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from ladder.chat.rendering import Messages

Choice = str | None
Side = Literal["one", "two", "tie"]
_STRAIGHT: dict[str, Side] = {"A": "one", "B": "two", "C": "tie"}
_SWAPPED: dict[str, Side] = {"A": "two", "B": "one", "C": "tie"}


class Chooser(Protocol):
    """A judge that chooses; see ladder.judges.judge.Judge."""

    def choose(self, requests: list[Messages], *, progress: str) -> list[Choice]: ...


@dataclass(frozen=True)
class Comparison:
    """Verdicts of a judge on answers one and two."""

    straight: Choice
    """Verdict with answer one first."""
    swapped: Choice
    """Verdict with answer two first."""

    @property
    def complete(self) -> bool:
        """Whether both verdicts are there."""
        return self.straight is not None and self.swapped is not None

    @property
    def sides(self) -> tuple[Side, Side] | None:
        """The side that each order prefers; None if a verdict is missing."""
        if self.straight is None or self.swapped is None:
            return None
        return _STRAIGHT[self.straight], _SWAPPED[self.swapped]

    @property
    def preferred(self) -> Side | None:
        """The side that wins in both orders, else "tie" (Zheng et al. 2023, sec. 3.4); None if a verdict is missing."""
        if self.sides is None:
            return None
        first, second = self.sides
        return first if first == second else "tie"

    @property
    def flipped(self) -> bool:
        """Whether the two orders give different verdicts; False if one is missing."""
        return self.sides is not None and self.sides[0] != self.sides[1]


def compare(judge: Chooser, pairs: Sequence[tuple[Messages, Messages]], *, progress: str) -> list[Comparison]:
    """Ask a judge about pairs in both orders.

    pairs: the request with answer one first, and the one with answer two first. Errors: UserError as for `Judge.ask`.
    """
    verdicts = judge.choose([straight for straight, _ in pairs] + [swapped for _, swapped in pairs], progress=progress)
    return [Comparison(*both) for both in zip(verdicts[: len(pairs)], verdicts[len(pairs) :], strict=True)]


def higher(one: float | None, two: float | None) -> Side | None:
    """Return which of two grades is higher: "one", "two" or "tie"; None if one is missing."""
    if one is None or two is None:
        return None
    return "tie" if one == two else "one" if one > two else "two"
