"""Benchmark interface: questions built from published rows, and scores computed from the answers.

A benchmark is one module of benchmarks/. The package is the registry; the module's name is the benchmark's name:

    MEASURES: dict[str, Measure]          # measures of one row of scores, by their names in the metric file
    HEADLINE: tuple[str, ...]             # the measures whose mean is the benchmark's score
    def questions(rows) -> list[Question]
    def score(questions, answers, tools) -> list[Row]     # one row per answered question, in the order of the answers

Optional names:

    MEANS: dict[str, tuple[str, ...]]     # further means of several measures, by their names in the metric file
    PACKAGES: tuple[str, ...]             # distributions that affect scores: the metric file records their versions
    TEMPLATES: tuple[str, ...]            # judge prompts: the metric file records their hash
    def templates(questions) -> tuple[str, ...]           # judge prompts that come with the rows
    def needs() -> None                   # UserError when this machine lacks a requirement, for example a sandbox
    CAVEATS: dict[str, str]               # known errors of numbers: the metric file states them beside the number

A row of scores has the question's key and group, and the fields that the measures read. It may have "verdicts" for the
page of answers: pairs of a name and true, "loosely", false, a number or a word.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ladder.data.jsonl import Row
from ladder.eval.measure import Measure

if TYPE_CHECKING:
    from ladder.judges.judge import Judge

JOIN = " + "


def key_text(value: Any) -> str:
    """Return a row's key as text; 1000.0, as a table with missing values holds an integer, becomes "1000"."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


@dataclass(frozen=True)
class Question:
    """One item of a benchmark."""

    key: str
    """Unique key in the benchmark."""
    turns: tuple[str, ...]
    """User turns; each is asked after the answer to the previous one."""
    group: str
    """Stratum, for subsets and for scores per group: a category or a kind of instruction; "a + b" is in both."""
    row: Row = field(repr=False, default_factory=dict)
    """Row as published, with the fields that the score reads."""

    @property
    def groups(self) -> list[str]:
        """Names of the single groups."""
        return self.group.split(JOIN)


@dataclass(frozen=True)
class Answers:
    """All answers of a model to one question."""

    key: str
    samples: tuple[tuple[str, ...], ...]
    """[samples][turns]: texts of the answers."""
    tokens: tuple[int, ...] = ()
    """[samples]: tokens of all turns; empty when unknown."""
    finished: tuple[bool, ...] = ()
    """[samples]: whether every turn ended by itself; empty when unknown."""


@dataclass(frozen=True)
class Tools:
    """Resources for scoring, in addition to the rows."""

    punkt: Path | None = None
    """NLTK data with tokenizers/punkt_tab, for IFEval's sentence counts."""
    judge: "Judge | None" = None
    """Judge model that grades answers."""
    seed: int = 0


@dataclass(frozen=True)
class Benchmark:
    """A loaded benchmark module; the fields are the module's names in lower case."""

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
        """Every number of the metric file, with the measures that it is the mean of; the headline comes first."""
        return {self.title: self.headline, **self.means, **{name: (name,) for name in self.measures}}

    @property
    def title(self) -> str:
        """Name of the headline in the metric file: that of its measure or its mean, else `score`."""
        named = {**{name: (name,) for name in self.measures}, **self.means}
        return next((name for name, parts in named.items() if parts == self.headline), "score")
