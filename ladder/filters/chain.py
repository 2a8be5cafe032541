"""Chain of filters over a batch of rows; each filter sees the rows that the previous ones keep."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ladder.data.jsonl import Row
from ladder.filters.batch import ROWS, Batch
from ladder.filters.prefilter import Kept
from ladder.filters.row_io import rewritten
from ladder.filters.shingles import Hashes
from ladder.filters.steps import FilterContext, Step
from ladder.pipeline.stage import UserError

GATE = "gate"
"""Label of the contamination check, which reports rows but does not reject them."""
Verdict = tuple[str, str] | None
"""(label, reason) of the step that rejects a row, or of the contamination check; None for a clean row."""


@dataclass(frozen=True)
class Sifted:
    """Result of a filter chain on a batch of rows."""

    rows: list[Row]
    """The rows after text edits, including rejected rows."""
    verdicts: list[Verdict]
    sketches: list[Hashes]
    """Sketches of the kept rows, one array [rows, numbers] per sketched step."""


def stays(verdict: Verdict) -> bool:
    """Whether a row with this verdict is kept."""
    return verdict is None or verdict[0] == GATE


@dataclass(frozen=True)
class _Bound:
    """A step with its bound function and pre-filter."""

    step: Step
    function: Callable[..., Any]
    screen: Callable[[Batch], Kept] | None


class FilterChain:
    """Filter steps that see a row, a batch or a text, and sketches for the all-row steps that follow."""

    def __init__(self, steps: Sequence[Step], given: FilterContext, sketched: Sequence[Step] = ()) -> None:
        bound = [_Bound(step, step.bound(given), step.screen(given)) for step in steps]
        self._groups = [(kind, list(group)) for kind, group in itertools.groupby(bound, lambda one: one.step.kind)]
        self._sketches = [step.sketch for step in sketched if step.sketch]
        if self._sketches and (not self._groups or self._groups[-1][0] != "row"):
            self._groups.append(("row", []))

    def sift(self, rows: Sequence[Row], where: Callable[[int], str] = "row {}".format) -> Sifted:
        """Filter a batch of rows. `where` gives the location of a row by its index, for error messages.

        Errors: UserError from a filter, prefixed with the filter's name and the location (for a batch, of its first and
        last row).
        """
        left = list(rows)
        verdicts: list[Verdict] = [None] * len(left)
        sketches: list[list[Hashes]] = [[] for _ in self._sketches]
        for place, (kind, group) in enumerate(self._groups, start=1):
            alive = [number for number, verdict in enumerate(verdicts) if verdict is None]
            if kind == "text":
                for bound, number in itertools.product(group, alive):
                    left[number] = rewritten(left[number], bound.function)
            elif kind == "batch":
                for bound in group:
                    _judge(bound, left, verdicts, where)
            else:
                for start in range(0, len(alive), ROWS):
                    numbers = alive[start : start + ROWS]
                    batch = Batch([left[number] for number in numbers])
                    for at, doubtful in _doubtful(batch, group):
                        verdicts[numbers[at]] = _verdict(batch.rows[at], doubtful, where(numbers[at]))
                    if place == len(self._groups):
                        kept = np.array([stays(verdicts[number]) for number in numbers])
                        for made, sketch in zip(sketches, self._sketches, strict=True):
                            made.append(sketch(batch)[kept])
        return Sifted(left, verdicts, [np.concatenate(made or [np.zeros((0, 1), np.uint64)]) for made in sketches])


def _judge(bound: _Bound, rows: list[Row], verdicts: list[Verdict], where: Callable[[int], str]) -> None:
    alive = [number for number, verdict in enumerate(verdicts) if verdict is None]
    try:
        reasons = bound.function([rows[number] for number in alive]) if alive else []
    except UserError as error:
        raise UserError(f"{where(alive[0])} to {where(alive[-1])}: {bound.step.label}: {error}") from None
    for number, reason in zip(alive, reasons, strict=True):
        verdicts[number] = None if reason is None else (bound.step.label, reason)


def _doubtful(batch: Batch, steps: Sequence[_Bound]) -> Iterator[tuple[int, list[_Bound]]]:
    """Yield (row index, steps that may reject it) for every row that the pre-filters do not clear."""
    if batch.large:
        yield from ((at, list(steps)) for at in range(len(batch.rows)))
        return
    none = np.zeros(len(batch.rows), np.bool_)
    doubts = ~np.array([none if one.screen is None else one.screen(batch) for one in steps], np.bool_)
    if steps:
        doubts |= batch.reasoning  # pre-filters read the reasoning too, so these rows need the filters themselves
    for at in np.flatnonzero(doubts.any(axis=0)).tolist() if steps else []:
        yield at, list(itertools.compress(steps, doubts[:, at].tolist()))


def _verdict(row: Row, steps: Sequence[_Bound], where: str) -> Verdict:
    for bound in steps:
        try:
            reason = bound.function(row)
        except UserError as error:
            raise UserError(f"{where}: {bound.step.label}: {error}") from None
        if reason is not None:
            return bound.step.label, reason
    return None
