"""Measures of a rung's rows, as scores that can be compared in pairs with those of another rung on the same rows.

The rows of one prompt (its samples or pairs) are one cluster, because prompts are the sampling unit.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ladder import statistics
from ladder.data.jsonl import Row
from ladder.eval.measure import Measure
from ladder.pipeline.stage import Config, UserError
from ladder.statistics import Array

if TYPE_CHECKING:
    from ladder.models.rung import Rung


def made_by(params: Config, data: Path, kind: str, rung: "Rung", **counts: int) -> Row:
    """Build the provenance of a summary: settings, counts, sha256 of the measured file of that kind, and the rung."""
    digest = hashlib.sha256(data.read_bytes()).hexdigest()
    return {**params.model_dump(), **counts, f"{kind}_sha256": digest, "rung": rung.provenance}


def _one(row: Row) -> float:
    return 1.0


def _tokens(row: Row) -> float:
    return float(row["tokens"])


def _won(margin: str) -> Callable[[Row], float]:
    """Build a function that returns 1 when the chosen answer wins, 0 when it loses, 1/2 for a tie."""
    return lambda row: float(statistics.won(np.asarray(row[margin])))


# Measures by the folder under data/ that holds a rung's rows; the first one of a folder is its default.
MEASURES: dict[str, dict[str, Measure]] = {
    "heldout": {
        "pass": Measure("answers that meet all checks", "%", "higher", lambda row: all(row["passed"]), _one, True),
        "reward": Measure(
            "mean share of checks met", "%", "higher", lambda row: float(np.mean(row["passed"])), _one, True
        ),
        "finish": Measure("finished answers", "%", "higher", lambda row: row["finished"], _one, True),
        "tokens": Measure("length of an answer", "tokens", "lower", _tokens, _one, False),
    },
    "accuracy": {
        "relative": Measure(
            "pairs whose log-probability margin over the reference is positive",
            "%", "higher", _won("relative_margin"), _one, True,
        ),
        "normalized": Measure(
            "pairs whose chosen answer is likelier per token", "%", "higher", _won("normalized_margin"), _one, True
        ),
    },
    "divergence": {
        "kl": Measure("KL(teacher || rung)", "nats per token", "lower", lambda row: row["kl"], _tokens, False),
        "cross_entropy": Measure(
            "cross-entropy", "nats per token", "lower", lambda row: row["cross_entropy"], _tokens, False
        ),
    },
}  # fmt: skip


CHANCE = "chance"
"""Baseline of a claim: a coin flip, where the measure is a share of pairs."""
REWARD = "reward"
"""Measure of a claim: a reward model's own held-out accuracy. Also the stage that makes reward models."""


def rows_path(folders: dict[str, Path], name: str, rung: str) -> Path:
    """Return the path of a rung's rows of a measure: data/heldout/sft/chat/problems/words.jsonl, data/accuracy/….

    folders: the folders by kind: heldout, accuracy, divergence. name: as for `parsed`.
    """
    kind, *rest = name.partition(":")[0].split("/")
    if kind == "heldout":
        return folders[kind] / rung / f"{'/'.join(rest)}.jsonl"
    return folders[kind].joinpath(*rest, f"{rung}.jsonl")


def parsed(name: str) -> tuple[str, Measure]:
    """Return (kind, measure) for a measure's name: `heldout/prompts`, `heldout/prompts:reward`. Errors: ValueError."""
    folder, _, number = name.partition(":")
    kind = folder.split("/")[0]
    if kind not in MEASURES:
        raise ValueError(f"expected a folder of {', '.join(MEASURES)} with measured rows, got {name!r}")
    numbers = MEASURES[kind]
    number = number or next(iter(numbers))
    if number not in numbers:
        raise ValueError(f"{kind}: expected one of {', '.join(numbers)}, got {number!r}")
    return kind, numbers[number]


@dataclass(frozen=True)
class Scores:
    """A measure by prompt: ids [N]; values and weights [N], summed over the rows of a prompt."""

    ids: list[str]
    values: Array
    weights: Array
    measure: Measure

    @property
    def mean(self) -> float:
        """Mean in the measure's unit, as all numbers of this class."""
        return self.measure.scale * statistics.ratio(self.values, self.weights)

    @property
    def interval(self) -> tuple[float, float]:
        """95% bootstrap interval over prompts."""
        find = statistics.interval if self.measure.share else statistics.bootstrap
        low, high = find(self.values, self.weights)
        return self.measure.scale * low, self.measure.scale * high

    @property
    def chance(self) -> "Scores":
        """Scores of a coin flip on the same rows."""
        return Scores(self.ids, self.weights / 2, self.weights, self.measure)


def scores(rows: list[Row], measure: Measure, path: Path) -> Scores:
    """Sum the rows of each `id`, ids sorted. Errors: UserError naming a row that lacks a field of the measure."""
    sums: dict[str, list[float]] = {}
    for number, row in enumerate(rows, start=1):
        try:
            value, weight = float(measure.value(row)), float(measure.weight(row))
            total = sums.setdefault(str(row["id"]), [0.0, 0.0])
        except KeyError as error:
            raise UserError(
                f"{path}: row {number}: no column {error}, which the stage that makes this file writes"
            ) from None
        except TypeError:
            raise UserError(f"{path}: row {number}: expected numbers for {measure.title}, got {row!r:.200}") from None
        total[0] += value
        total[1] += weight
    ids = sorted(sums)
    values, weights = np.array([sums[name] for name in ids]).T
    return Scores(ids, values, weights, measure)


def compare(first: Scores, second: Scores) -> statistics.Comparison:
    """Compare two scores on the same rows prompt by prompt: second minus first, in the measure's unit.

    The verdict follows the measure's own direction. Errors: ValueError when the rows are not the same.
    """
    if first.ids != second.ids or not np.array_equal(first.weights, second.weights):
        raise ValueError("expected two scores of the same rows")
    found = statistics.paired(first.values, second.values, first.weights)
    scale = second.measure.scale
    found["difference"], found["low"], found["high"] = (scale * found[key] for key in ("difference", "low", "high"))
    if second.measure.better == "lower":
        found["verdict"] = statistics.OPPOSITE[found["verdict"]]
    return found
