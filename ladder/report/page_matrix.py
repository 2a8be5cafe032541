"""Matrix of rungs by benchmarks for the page: scores with intervals, and changes with their tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ladder.report.rung_table import SMALLEST_JUDGE
from ladder.statistics import UNCHANGED

HEATS = 4
"""Number of shades of each color."""
Line = Mapping[str, Any]
"""A rung of report/table.json."""


@dataclass(frozen=True)
class Benchmark:
    """A column. `check` marks a judge too small to measure anything: its scores are in no comparison."""

    name: str
    unit: str
    better: str
    headline: str
    measures: tuple[str, ...]
    """Measures that the score is the mean of."""
    n: int
    of: int
    check: bool

    @property
    def share(self) -> bool:
        return self.unit == "%"


@dataclass(frozen=True)
class Change:
    """A difference with its interval and test, as text; `shade` is from -4 (worst) to 4 (best)."""

    against: str
    difference: float
    text: str
    interval: str
    holm: str
    """p with Holm's correction."""
    n: str
    verdict: str
    gained: int | None = None
    lost: int | None = None
    shade: int = 0
    note: str = ""
    """How it was compared, if not question by question."""


@dataclass(frozen=True)
class Cell:
    """A rung's score on a benchmark, as text, and its change; None without a comparison."""

    score: str
    interval: str
    seeds: str
    change: Change | None = None


@dataclass(frozen=True)
class Row:
    """A rung. parents: the rungs that it was made of."""

    rung: str
    method: str
    parents: list[str]
    baseline: str
    trainable: str
    cells: dict[str, Cell | None] = field(default_factory=dict)


def parents(line: Line) -> list[str]:
    """Return the parents of a rung: "base + sft/maths" is two."""
    return [parent for parent in str(line.get("parent") or "").split(" + ") if parent]


def benchmarks(lines: Sequence[Line]) -> list[Benchmark]:
    """Return the columns: all benchmarks of the table, in its order."""
    found: dict[str, Benchmark] = {}
    for line in lines:
        for name, one in line["benchmarks"].items():
            made_by = one["made_by"]
            head, judge = made_by["headline"], made_by.get("judge", {})
            check = float(judge.get("parameters", "inf")) < SMALLEST_JUDGE
            size = int(made_by["rows"]), int(made_by["of"])
            score = head["unit"], head["better"], head["name"], tuple(head["measures"])
            found.setdefault(name, Benchmark(name, *score, *size, check))
    return list(found.values())


def matrix(lines: Sequence[Line], columns: Sequence[Benchmark], changes: Mapping[tuple[str, str], Change]) -> list[Row]:
    """Return the rows of the matrix. changes: those of (benchmark, rung); a rung without one is not compared."""
    largest = {
        column.name: max((abs(one.difference) for (name, _), one in changes.items() if name == column.name), default=0)
        for column in columns
    }
    rows = []
    for line in lines:
        row = Row(line["rung"], line["method"], parents(line), line["baseline"], trainable(line))
        for column in columns:
            one, change = line["benchmarks"].get(column.name), changes.get((column.name, row.rung))
            row.cells[column.name] = cell(one, column, change and shaded(change, column, largest[column.name]))
        rows.append(row)
    return rows


def cell(one: Line | None, column: Benchmark, change: Change | None) -> Cell | None:
    """Format a result of table.json; None without one."""
    if one is None:
        return None
    low, high = one["interval"]
    seeds = one.get("by_seed") or []
    ends = f"{number(min(seeds), column)} to {number(max(seeds), column)} on {len(seeds)} seeds" if seeds else ""
    return Cell(number(one["score"], column), f"[{number(low, column)}, {number(high, column)}]", ends, change)


def against_baseline(lines: Sequence[Line], columns: Sequence[Benchmark]) -> dict[tuple[str, str], Change]:
    """Return the changes that the stage `report` computed: each rung against its baseline."""
    return {
        (column.name, line["rung"]): of_table(column, line["baseline"], change)
        for line in lines
        for column in columns
        if (change := line["benchmarks"].get(column.name, {}).get("against_baseline")) is not None
    }


def pairs(lines: Sequence[Line], columns: Sequence[Benchmark]) -> list[tuple[str, str, Change]]:
    """Return (rung, benchmark, change) of the pairs that `report.compare` in params.yaml asks for."""
    return [
        (line["rung"], column.name, of_table(column, other, change))
        for line in lines
        for column in columns
        for other, change in line["benchmarks"].get(column.name, {}).get("against", {}).items()
    ]


def of_table(column: Benchmark, against: str, change: Mapping[str, Any]) -> Change:
    """Format a comparison of report/table.json."""
    ends = change["difference"], change["low"], change["high"]
    n, verdict, gained, lost = str(change["n"]), change["verdict"], change["gained"], change["lost"]
    return changed(column, against, *ends, holm=change["p_holm"], n=n, verdict=verdict, gained=gained, lost=lost)


def changed(
    column: Benchmark, against: str, difference: float, low: float, high: float, *, holm: float, n: str, verdict: str,
    gained: int | None = None, lost: int | None = None, note: str = "",
) -> Change:  # fmt: skip
    """Format a change. holm: p with Holm's correction; table.json has five decimals, so 0 is less than 0.000005."""
    interval = f"[{number(low, column)}, {number(high, column)}]"
    p = f"{holm:.2g}" if holm else "< 5e-06"
    text = number(difference, column, "+")
    return Change(against, difference, text, interval, p, n, verdict, gained, lost, note=note)


def number(value: float, column: Benchmark, sign: str = "") -> str:
    """Format a number as report/table.md does: one decimal for a percentage, else two."""
    return f"{value:{sign}.{1 if column.share else 2}f}"


def shaded(change: Change, column: Benchmark, largest: float) -> Change:
    """Return a change with its shade: its share of the benchmark's largest change, positive where it is better.

    A change without a significant difference has the faintest shade at most.
    """
    upwards = 1 if column.better == "higher" else -1
    shade = round(HEATS * upwards * change.difference / largest) if largest else 0
    return replace(change, shade=max(-1, min(1, shade)) if change.verdict == UNCHANGED else shade)


def trainable(line: Line) -> str:
    """Format the number of trained parameters, with their share."""
    learned, whole = line.get("trainable_parameters") or 0, line.get("parameters") or 0
    return f"{learned / 1e6:.1f} M ({100 * learned / whole:.3g}%)" if learned and whole else ""
