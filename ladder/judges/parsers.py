"""What a judge may reply, and nothing else: a rating, a choice, a JSON object with exactly the wanted keys."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ladder.inference.structured_output import read_object
from ladder.pipeline.stage import Config

S = TypeVar("S", bound=Config)


@dataclass(frozen=True)
class Scale:
    """The verdicts between which a judge decides, and the words around one: `lead + label + tail`."""

    labels: tuple[str, ...]
    """As the judge writes them: ("1", …, "10"), or ("A", "B", "C")."""
    lead: str
    """What a local judge's reply begins with, up to the label."""
    tail: str = "]]"
    """What follows the label; it tells "1" from the beginning of "10". Empty: the label is the whole reply."""
    worth: tuple[float, ...] = ()
    """What each label is worth as a grade, where the labels are no numbers."""

    def grades(self) -> list[float]:
        """What each label is worth."""
        return list(self.worth) or [float(label) for label in self.labels]

    def choice(self, text: str) -> str | None:
        """The label that a reply names; None where it names none, or several that differ."""
        if self.tail:
            return parse_choice(text, self.labels)
        return text.strip() if text.strip() in self.labels else None

    def grade(self, text: str) -> float | None:
        """What the label is worth that a reply names; of numbers, one between two labels is a grade too."""
        if self.tail and not self.worth:
            return parse_rating(text, min(self.grades()), max(self.grades()))
        label = self.choice(text)
        return None if label is None else self.grades()[self.labels.index(label)]


RATINGS = Scale(tuple(map(str, range(1, 11))), "Rating: [[")
"""MT-Bench's grades, 1 to 10."""
CHOICES = Scale(("A", "B", "C"), "[[")
"""MT-Bench's pairwise verdicts: the first answer, the second, a tie."""


def parse_rating(text: str, low: float = 1, high: float = 10) -> float | None:
    """The rating of a reply such as `Rating: [[5]]` (MT-Bench, Zheng et al. 2023, appendix D.2).

    None where there is none, where it is outside low..high, or where a reply names several that differ.
    """
    found = {float(number) for number in re.findall(r"\[\[(\d+(?:\.\d+)?)\]\]", text)}
    rating = found.pop() if len(found) == 1 else None
    return rating if rating is not None and low <= rating <= high else None


def parse_choice(text: str, labels: tuple[str, ...] = ("A", "B", "C")) -> str | None:
    """The choice of a reply such as `[[A]]`; None where there is none of `labels`, or several that differ."""
    found = set(re.findall(r"\[\[([^\[\]]*)\]\]", text)) & set(labels)
    return found.pop() if len(found) == 1 else None


def parse_json(schema: type[S]) -> Callable[[str], S | None]:
    """A parser of replies that are one JSON object of `schema`: its keys and no others, types as they are.

    One Markdown code block around the object is allowed. None where the reply is anything else.
    """

    def parse(text: str) -> S | None:
        try:
            return read_object(text, schema)
        except ValueError:
            return None

    return parse
