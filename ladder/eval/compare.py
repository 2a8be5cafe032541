"""Paired comparison of a rung's scores on a benchmark: difference of the headline, its interval and its test.

Rows of scores have a "key", "measures" {name: [value, weight]} and, where available, the "prompt".
"""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ladder import statistics
from ladder.data.jsonl import Row
from ladder.eval.measures import MEASURES
from ladder.pipeline.stage import UserError
from ladder.statistics import Array

ALPHA = 0.05


class Apart(UserError):
    """Two files of rows without a common prompt or measure to compare."""


class Headline(NamedTuple):
    """A benchmark's score: the measures it is the mean of, their unit, and whether higher or lower is better."""

    measures: tuple[str, ...]
    unit: str
    better: str

    @property
    def share(self) -> bool:
        return self.unit == "%"

    @property
    def scale(self) -> float:
        return 100.0 if self.share else 1.0

    @property
    def upwards(self) -> float:
        """1 when higher is better, else -1."""
        return 1.0 if self.better == "higher" else -1.0


HELDOUT = Headline(("pass",), "%", "higher")


def recorded(summary: Row, where: str) -> Headline:
    """Read the headline that the stage `benchmark` wrote to a summary. Errors: UserError naming the file."""
    if "absent" in summary:
        raise UserError(f"{where}: not scored: {summary['absent']}")
    try:
        found = summary["made_by"]["headline"]
        return Headline(tuple(found["measures"]), found["unit"], found["better"])
    except (KeyError, TypeError):
        raise UserError(f"{where}: expected made_by.headline with measures, unit and better") from None


def solved(rows: list[Row], where: str) -> list[Row]:
    """Convert rows of the stage `heldout` to rows of scores; the samples of one prompt become one row."""
    value, weight = MEASURES["heldout"]["pass"].value, MEASURES["heldout"]["pass"].weight
    found: dict[str, Row] = {}
    for number, row in enumerate(rows, start=1):
        try:
            key, pair = str(row["id"]), [float(value(row)), float(weight(row))]
        except (KeyError, TypeError) as error:
            raise UserError(f"{where}: row {number}: not a row of the stage heldout: {error!r}") from None
        was = found.setdefault(key, {"key": key, "prompt": row.get("prompt"), "measures": {"pass": [0.0, 0.0]}})
        was["measures"]["pass"] = np.add(was["measures"]["pass"], pair).tolist()
    return list(found.values())


@dataclass(frozen=True)
class Change:
    """Second minus first on their common prompts; numbers are in the headline's unit."""

    title: str
    rung: str
    unit: str
    better: str
    share: bool
    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float
    holm: float
    """p with Holm's correction over all comparisons made together; p itself for a single comparison."""
    verdict: str
    prompts: int
    """Number of compared prompts; each counts in both."""
    of: int
    """Number of prompts in either."""
    gained: int
    lost: int
    changed: dict[str, tuple[float, float]] = field(repr=False)
    """Prompts whose result changed, with the first and second result, largest losses first."""


class Results(NamedTuple):
    """By prompt: values and weights [K measures], and the prompt itself when the rows have it."""

    values: dict[str, Array]
    weights: dict[str, Array]
    prompts: dict[str, Any]


def compare(first: list[Row], second: list[Row], of: Headline, *, title: str, rung: str) -> Change:
    """Compare two files of rows prompt by prompt.

    Where a measure has weight 0 for a prompt on one side (no verdict of the judge), it is left out on both sides. Two
    prompts with the same key but different texts are not paired.
    Errors: Apart; UserError for a duplicate key.
    """
    where = f"{title} {rung}"
    old, new = (results(rows, of, f"{where}: {age} row") for rows, age in ((first, "old"), (second, "new")))
    keys, ((first_KN, first_asked_KN), (second_KN, second_asked_KN)) = common([old, new], of, where)
    found = statistics.paired(first_KN, second_KN, first_asked_KN, second_asked_KN)
    changed = _changed(keys, each(first_KN, first_asked_KN), each(second_KN, second_asked_KN), of)
    lost = sum(of.upwards * (now - before) < 0 for before, now in changed.values())
    verdict = found["verdict"]
    if of.upwards < 0:
        verdict = statistics.OPPOSITE[verdict]
    return Change(
        title=title,
        rung=rung,
        unit=of.unit,
        better=of.better,
        share=of.share,
        first=of.scale * statistics.ratio(first_KN, first_asked_KN),
        second=of.scale * statistics.ratio(second_KN, second_asked_KN),
        difference=of.scale * found["difference"],
        low=of.scale * found["low"],
        high=of.scale * found["high"],
        p=found["p"],
        holm=found["p"],
        verdict=verdict,
        prompts=len(keys),
        of=len(old.values.keys() | new.values.keys()),
        gained=len(changed) - lost,
        lost=lost,
        changed=changed,
    )


def common(sides: list[Results], of: Headline, where: str) -> tuple[list[str], list[tuple[Array, Array]]]:
    """Return the keys of the compared prompts, and the values and weights [K, N] of each side.

    A measure without weight on one side is left out on all sides. Errors: Apart.
    """
    in_all = set(sides[0].values).intersection(*(side.values for side in sides))
    ordered = sorted(in_all, key=lambda key: (len(key), key))  # numbers in their order
    alike = [key for key in ordered if all(_same(key, sides[0], side) for side in sides)]
    if not alike:
        counts = " and ".join(str(len(side.values)) for side in sides)
        raise Apart(f"{where}: no common prompt among {counts}")
    values = [np.array([side.values[key] for key in alike]).T for side in sides]
    weights = [np.array([side.weights[key] for key in alike]).T for side in sides]
    counted_KN = np.asarray(np.all([side > 0 for side in weights], axis=0))
    for measure, counted_N in zip(of.measures, counted_KN, strict=True):
        if not counted_N.any():
            every = "both" if len(sides) == 2 else "all"
            raise Apart(f"{where}: {measure}: no common prompt of {len(alike)} has it in {every}")
    kept_N: NDArray[np.bool_] = np.any(counted_KN, axis=0)
    keys = [key for key, kept in zip(alike, kept_N, strict=True) if kept]
    return keys, [
        ((value * counted_KN)[:, kept_N], (weight * counted_KN)[:, kept_N])
        for value, weight in zip(values, weights, strict=True)
    ]


def results(rows: list[Row], of: Headline, where: str) -> Results:
    """Read rows of scores by prompt. Errors: Apart for a row without a measure; UserError for a duplicate key."""
    found = Results({}, {}, {})
    for number, row in enumerate(rows, start=1):
        key = str(row["key"])
        if key in found.values:
            raise UserError(f"{where} {number}: duplicate key {key!r}")
        try:
            pairs_K2 = np.array([row["measures"][name] for name in of.measures], dtype=float)
        except KeyError as error:
            raise Apart(f"{where} {number}: no {error}, which the score needs") from None
        found.values[key], found.weights[key] = pairs_K2.T
        found.prompts[key] = row.get("prompt")
    return found


def _same(key: str, old: Results, new: Results) -> bool:
    """Whether a key has the same prompt on both sides; if either file has no prompt text, the key decides."""
    first, second = old.prompts[key], new.prompts[key]
    return first is None or second is None or first == second


def each(values_KN: Array, weights_KN: Array) -> Array:
    """Return each prompt's own score [N]: the mean of the measures with a weight."""
    counted_KN = weights_KN > 0
    each_KN = np.divide(values_KN, weights_KN, out=np.zeros_like(values_KN), where=counted_KN)
    return np.asarray(each_KN.sum(axis=0) / counted_KN.sum(axis=0))


def _changed(keys: list[str], first_N: Array, second_N: Array, of: Headline) -> dict[str, tuple[float, float]]:
    order = sorted(range(len(keys)), key=lambda n: (of.upwards * (second_N[n] - first_N[n]), keys[n]))
    pairs = {keys[n]: (of.scale * float(first_N[n]), of.scale * float(second_N[n])) for n in order}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def corrected(changes: list[Change]) -> list[Change]:
    """Apply Holm's correction over all changes, and update their verdicts."""
    adjusted = statistics.holm([change.p for change in changes])
    return [
        replace(change, holm=p, verdict=change.verdict if p < ALPHA else statistics.UNCHANGED)
        for change, p in zip(changes, adjusted, strict=True)
    ]
