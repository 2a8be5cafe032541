"""Several filters over a batch of rows: each sees what those before it left."""

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
"""The label of a step that rejects nothing: what it says of a row is told."""
Verdict = tuple[str, str] | None
"""The label and the reason of the step that rejects a row, or of the gate."""


@dataclass(frozen=True)
class Sifted:
    rows: list[Row]
    """As the steps leave them."""
    verdicts: list[Verdict]
    sketches: list[Hashes]
    """Of the rows that stay, [rows, numbers] for each step that is sketched for."""


def stays(verdict: Verdict) -> bool:
    return verdict is None or verdict[0] == GATE


@dataclass(frozen=True)
class _Bound:
    """A step with what it judges by."""

    step: Step
    function: Callable[..., Any]
    screen: Callable[[Batch], Kept] | None


class FilterChain:
    """Steps, none of which sees all rows, and sketches for those that do and come next."""

    def __init__(self, steps: Sequence[Step], given: FilterContext, sketched: Sequence[Step] = ()) -> None:
        bound = [_Bound(step, step.bound(given), step.screen(given)) for step in steps]
        self._groups = [(kind, list(group)) for kind, group in itertools.groupby(bound, lambda one: one.step.kind)]
        self._sketches = [step.sketch for step in sketched if step.sketch]
        if self._sketches and (not self._groups or self._groups[-1][0] != "row"):
            self._groups.append(("row", []))

    def sift(self, rows: Sequence[Row], where: Callable[[int], str] = "row {}".format) -> Sifted:
        """Errors: UserError by a filter, with the filter's name and `where` the row stands (of a batch, the first)."""
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
    """The rows that are not surely kept, by their place, and the steps that may reject each."""
    if batch.large:
        yield from ((at, list(steps)) for at in range(len(batch.rows)))
        return
    none = np.zeros(len(batch.rows), np.bool_)
    doubts = ~np.array([none if one.screen is None else one.screen(batch) for one in steps], np.bool_)
    if steps:
        doubts |= batch.reasoning  # a screen has seen the reasoning too
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
