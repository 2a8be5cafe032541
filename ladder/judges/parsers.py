"""Strict parsers of judge replies: a rating, a choice, or a JSON object with exactly the keys of a schema."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ladder.inference.structured_output import read_object
from ladder.pipeline.stage import Config

S = TypeVar("S", bound=Config)


@dataclass(frozen=True)
class Scale:
    """Verdict labels of a judge and the text around a label: `lead + label + tail`."""

    labels: tuple[str, ...]
    """Labels as the judge writes them: ("1", …, "10"), or ("A", "B", "C")."""
    lead: str
    """Start of a local judge's reply, up to the label."""
    tail: str = "]]"
    """Text after the label; it distinguishes "1" from the start of "10". Empty: the label is the whole reply."""
    worth: tuple[float, ...] = ()
    """Grade of each label, if the labels are not numbers."""

    def grades(self) -> list[float]:
        """Grade of each label."""
        return list(self.worth) or [float(label) for label in self.labels]

    def choice(self, text: str) -> str | None:
        """Parse the label of a reply; None if there is none, or several different ones."""
        if self.tail:
            return parse_choice(text, self.labels)
        return text.strip() if text.strip() in self.labels else None

    def grade(self, text: str) -> float | None:
        """Parse the grade of a reply. On a numeric scale, a number between two labels is valid too."""
        if self.tail and not self.worth:
            return parse_rating(text, min(self.grades()), max(self.grades()))
        label = self.choice(text)
        return None if label is None else self.grades()[self.labels.index(label)]


RATINGS = Scale(tuple(map(str, range(1, 11))), "Rating: [[")
"""MT-Bench grades, 1 to 10."""
CHOICES = Scale(("A", "B", "C"), "[[")
"""MT-Bench pairwise verdicts: first answer, second answer, tie."""


def parse_rating(text: str, low: float = 1, high: float = 10) -> float | None:
    """Parse the rating of a reply such as `Rating: [[5]]` (MT-Bench, Zheng et al. 2023, appendix D.2).

    None if there is none, if it is outside [low, high], or if the reply has several different ones.
    """
    found = {float(number) for number in re.findall(r"\[\[(\d+(?:\.\d+)?)\]\]", text)}
    rating = found.pop() if len(found) == 1 else None
    return rating if rating is not None and low <= rating <= high else None


def parse_choice(text: str, labels: tuple[str, ...] = ("A", "B", "C")) -> str | None:
    """Parse the choice of a reply such as `[[A]]`; None if it has none of `labels`, or several different ones."""
    found = set(re.findall(r"\[\[([^\[\]]*)\]\]", text)) & set(labels)
    return found.pop() if len(found) == 1 else None


def parse_json(schema: type[S]) -> Callable[[str], S | None]:
    """Make a parser of replies that are one JSON object of `schema`: exactly its keys, without type conversion.

    One Markdown code block around the object is allowed. The parser returns None for anything else.
    """

    def parse(text: str) -> S | None:
        try:
            return read_object(text, schema)
        except ValueError:
            return None

    return parse
