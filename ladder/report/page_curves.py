"""Training curves for the page: plots/**/*.tsv, reduced to the extremes that a screen can show."""

import math
from collections.abc import Sequence
from operator import itemgetter
from statistics import fmean
from typing import Any

from ladder.report.page_files import Files

PLOTS = "plots"
Point = tuple[float, float]
"""Step and value."""
BUCKETS = 1000
"""Maximum number of pixels of a drawn curve; the script draws at most so many."""
FIRST = ("loss", "validation_loss", "reward", "kl")
"""Columns at the start of the list of quantities."""
UNITS = {
    "cross_entropy": "nats per token",
    "entropy": "nats per token",
    "kl": "nats per token",
    "mean_token_accuracy": "share of tokens",
    "num_tokens": "tokens",
    "rewards/accuracies": "share of pairs",
    "reward": "mean reward",
}
"""Units of columns whose name does not have them. The unit of a stage's plotted column is in dvc.yaml."""


def curves(files: Files, stanzas: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the curves of a revision: name, number of steps, and the points of each column.

    stanzas: the stages of dvc.yaml, for the labels of their plots. Files without a column `step` of numbers are funnels
    and are left out.
    """
    found = []
    for path in files.paths(PLOTS, ".tsv"):
        text = files.read(path)
        columns = parse(text) if text else {}
        if not (steps := columns.pop("step", [])) or math.nan in steps:
            continue
        name = path.removeprefix(f"{PLOTS}/").removesuffix(".tsv")
        labels = UNITS | plot_labels(stanzas.get(name.partition("/")[0], {}))
        found.append(
            {
                "name": name,
                "steps": len(steps),
                "columns": {
                    column: {"unit": labels.get(column, ""), **drawn}
                    for column, values in columns.items()
                    if (drawn := reduced(steps, values))["points"]
                },
            }
        )
    return found


def parse(text: str) -> dict[str, list[float]]:
    """Return the numbers of each column of a TSV text; a value that is not a number is NaN."""
    head, *lines = (line.split("\t") for line in text.splitlines())
    return {name: [_number(line[place]) for line in lines] for place, name in enumerate(head)}


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def reduced(steps: Sequence[float], values: Sequence[float], buckets: int = BUCKETS) -> dict[str, list[Point]]:
    """Return the drawn points of a curve: all measured ones, or for a long curve its extremes and means.

    A curve with more than two points per bucket has the lowest and highest point of each bucket and both ends in
    `points`, and the mean step and value of each bucket in `means`. The buckets divide the range of steps evenly, like
    the pixels of a screen. NaN is a step without a measurement and is left out.
    """
    points = [(step, value) for step, value in zip(steps, values, strict=True) if not math.isnan(value)]
    if len(points) <= 2 * buckets:
        return {"points": points}
    start, width = points[0][0], (points[-1][0] - points[0][0]) or 1.0
    inside: dict[int, list[Point]] = {}
    for step, value in points:
        inside.setdefault(min(buckets - 1, int(buckets * (step - start) / width)), []).append((step, value))
    extremes = {end(some, key=itemgetter(1)) for some in inside.values() for end in (min, max)}
    means = [(fmean(step for step, _ in some), fmean(value for _, value in some)) for _, some in sorted(inside.items())]
    return {
        "points": sorted(extremes | {points[0], points[-1]}),
        "means": [(step, float(f"{value:.6g}")) for step, value in means],
    }


def plot_labels(stanza: dict[str, Any]) -> dict[str, str]:
    """Return {column: unit} of the plots of a stage: `y_label: loss (nats per token)` is {"loss": "nats per token"}."""
    labels = {}
    for plot in (stanza.get("do") or stanza).get("plots") or []:
        for settings in plot.values() if isinstance(plot, dict) else ():
            name, label = settings.get("y"), str(settings.get("y_label", ""))
            _, opened, unit = label.partition(" (")
            if isinstance(name, str) and (opened or label):
                labels[name] = unit.removesuffix(")") if opened else label
    return {name: "" if unit == name else unit for name, unit in labels.items()}


def quantities(found: Sequence[dict[str, Any]]) -> list[str]:
    """Return the names of all columns, the most used first."""
    names = {column for curve in found for column in curve["columns"]} - {"epoch"}
    return [*(name for name in FIRST if name in names), *sorted(names - set(FIRST))]
