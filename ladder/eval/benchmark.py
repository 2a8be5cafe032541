"""What a benchmark is: questions made of its published rows, and scores made of the answers to them.

A benchmark is one module of benchmarks/ (the module is the registry, its name is the benchmark's):

    MEASURES: dict[str, Measure]          # what one row of scores is worth, by the names of the metric file
    HEADLINE: tuple[str, ...]             # the measures whose mean is the benchmark's score
    def questions(rows) -> list[Question]
    def score(questions, answers, tools) -> list[Row]     # one row a question that was answered, in their order

and, where it needs them:

    MEANS: dict[str, tuple[str, ...]]     # further means of several measures, by the names of the metric file
    PACKAGES: tuple[str, ...]             # distributions that decide scores: the metric file states their versions
    TEMPLATES: tuple[str, ...]            # what a judge is told: the metric file has their hash
    def templates(questions) -> tuple[str, ...]           # the same, where they come with the rows
    def needs() -> None                   # UserError where this machine lacks what scoring needs: a sandbox, say
    CAVEATS: dict[str, str]               # known errors of numbers: the metric file states them beside the number

A row of scores has the question's key and group, and what the measures read. It may have "verdicts", for the page of
answers: pairs of a name and true, "loosely", false, a number or a word.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ladder.data.jsonl import Row
from ladder.eval.measures import Measure

if TYPE_CHECKING:
    from ladder.judges.judge import Judge

JOIN = " + "


def key_text(value: Any) -> str:
    """A row's key as text; 1000.0, as a table with absent values holds it, is 1000."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


@dataclass(frozen=True)
class Question:
    """One item of a benchmark."""

    key: str
    """Its name there; unique."""
    turns: tuple[str, ...]
    """What the user says, turn by turn; each is asked after the answer to the one before."""
    group: str
    """Its stratum, for subsets and for scores apart: a category, a kind of instruction; "a + b" is of both."""
    row: Row = field(repr=False, default_factory=dict)
    """The row as published: what the score reads."""

    @property
    def groups(self) -> list[str]:
        """The group taken apart."""
        return self.group.split(JOIN)


@dataclass(frozen=True)
class Answers:
    """All that a model answered to one question."""

    key: str
    samples: tuple[tuple[str, ...], ...]
    """[samples][turns]: the answers' texts."""
    tokens: tuple[int, ...] = ()
    """[samples]: tokens of all turns; empty where it is not known."""
    finished: tuple[bool, ...] = ()
    """[samples]: whether every turn ended by itself; empty where it is not known."""


@dataclass(frozen=True)
class Tools:
    """What scoring may need beside rows."""

    punkt: Path | None = None
    """NLTK data with tokenizers/punkt_tab, for IFEval's sentence counts."""
    judge: "Judge | None" = None
    """A model that grades answers."""
    seed: int = 0


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's module as read; the fields are its names in lower case."""

    name: str
    measures: dict[str, Measure]
    headline: tuple[str, ...]
    questions: Callable[[list[Row]], list[Question]]
    score: Callable[[list[Question], list[Answers], Tools], list[Row]]
    means: dict[str, tuple[str, ...]]
    packages: tuple[str, ...]
    templates: Callable[[list[Question]], tuple[str, ...]]
    needs: Callable[[], object]
    caveats: dict[str, str] = field(default_factory=dict)

    @property
    def numbers(self) -> dict[str, tuple[str, ...]]:
        """Every number of the metric file and the measures that it is the mean of, the headline first."""
        return {self.title: self.headline, **self.means, **{name: (name,) for name in self.measures}}

    @property
    def title(self) -> str:
        """The headline's name in the metric file: that of its measure or its mean, else `score`."""
        named = {**{name: (name,) for name in self.measures}, **self.means}
        return next((name for name, parts in named.items() if parts == self.headline), "score")
