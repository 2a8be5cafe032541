"""HTML page that compares the answers of all rungs side by side. Answers are untrusted text and are always escaped."""

from dataclasses import dataclass, field
from typing import Literal

from ladder.report.html_page import render

Change = Literal["gained", "lost", "changed", ""]
State = Literal["passed", "loosely", "failed", ""]


@dataclass(frozen=True)
class Mark:
    """Result of one check of an answer: a state (passed, loosely, failed), or a number or word in `value`."""

    name: str
    state: State = ""
    value: str = ""


@dataclass(frozen=True)
class Answer:
    """One rung's answer to one question: its turns, from the first of its samples."""

    turns: list[str]
    marks: list[Mark]
    tokens: int | None
    finished: bool
    solved: bool = False
    """Whether the answer has the full score. Always false if the score is not a share."""
    change: Change = ""
    """Change against the parent's answer.

    gained: solved now, or a higher score. lost: no longer solved, or a lower score. changed: only other marks differ.
    """
    samples: int = 1


@dataclass(frozen=True)
class Standing:
    """One rung's row in a benchmark's table, as text."""

    rung: str
    parent: str
    score: str
    """Score with its interval: "26.8 [18.2, 35.9]"."""
    bar: tuple[float, float, float]
    """Score and interval bounds (score, low, high) on a scale from 0 to 100."""
    change: str = ""
    """Difference to the parent with its interval; empty without a comparison."""
    verdict: str = ""
    """`improved`, `regressed` or `no significant difference`."""


@dataclass(frozen=True)
class Question:
    """One question with each rung's answer, in the order of the standings."""

    key: str
    group: str
    turns: list[str]
    answers: list[Answer] = field(default_factory=list)

    @property
    def solved(self) -> int:
        """Number of rungs that solved it."""
        return sum(answer.solved for answer in self.answers)

    def numbers(self, *changes: Change) -> str:
        """Return the places, from 0, of the rungs whose answer has one of these changes: "1 3"."""
        return " ".join(str(number) for number, answer in enumerate(self.answers) if answer.change in changes)


@dataclass(frozen=True)
class Part:
    """One benchmark's part of the page."""

    benchmark: str
    title: str
    share: bool
    """Whether the benchmark's score is a share. Only then can a question count as solved."""
    standings: list[Standing]
    questions: list[Question]


def answers_page(title: str, note: str, parts: list[Part]) -> str:
    """Return the complete page as HTML. All parts must have the same rungs."""
    compared = {number for part in parts for number, standing in enumerate(part.standings) if standing.verdict}
    return render(
        "answers",
        title=title,
        note=note,
        parts=parts,
        rungs=[standing.rung for standing in parts[0].standings],
        compared=sorted(compared),
        spoken=SPOKEN,
    )


SPOKEN = {"passed": "passed", "loosely": "loosely passed", "failed": "failed"}
"""Labels for screen readers. Sighted readers see the signs that the style draws."""
