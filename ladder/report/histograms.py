"""Distributions of whole numbers: quantiles, doubling bins and text histograms."""

from collections import Counter
from math import ceil

from ladder.data.jsonl import Row

WIDTH = 40
"""Length of the longest bar in characters."""


def quantile(counts: Counter[int], share: float) -> int:
    """Return the quantile by numpy's `inverted_cdf`: always an observed value, without interpolation.

    It is the smallest value that is greater than or equal to at least a fraction `share` of the numbers.
    """
    wanted, seen = max(1, ceil(share * counts.total() - 1e-9)), 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= wanted:
            return value
    raise ValueError("no numbers")


def spread(counts: Counter[int]) -> Row:
    """Return summary statistics of counted non-negative numbers.

    Keys: "total", "mean", "p5", "median", "p95", "max" and "histogram" (doubling bins).
    """
    total = sum(value * count for value, count in counts.items())
    return {
        "total": total,
        "mean": round(total / counts.total(), 1),
        "p5": quantile(counts, 0.05),
        "median": quantile(counts, 0.5),
        "p95": quantile(counts, 0.95),
        "max": max(counts),
        "histogram": doubling(counts),
    }


def doubling(counts: Counter[int]) -> dict[str, int]:
    """Return counts in the bins 0, 1, 2-3, 4-7, 8-15 and so on, from the first to the last non-empty bin."""
    bins: Counter[int] = Counter()
    for value, count in counts.items():
        bins[value.bit_length()] += count
    return {_name(width): bins[width] for width in range(min(bins), max(bins) + 1)}


def _name(width: int) -> str:
    low, high = 1 << max(0, width - 1), (1 << width) - 1
    return str(high) if width < 2 else f"{low}-{high}"


def bars(histogram: dict[str, int], title: str) -> str:
    """Format a histogram as text: one line per bin, with its count and a bar of up to WIDTH characters."""
    names = max(len(title), *map(len, histogram))
    numbers = max(len(str(count)) for count in [*histogram.values(), "rows"])
    most = max(histogram.values())
    lines = [f"{title:>{names}}  {'rows':>{numbers}}"]
    for name, count in histogram.items():
        bar = "█" * max(round(WIDTH * count / most), int(count > 0))
        lines.append(f"{name:>{names}}  {count:>{numbers}}  {bar}".rstrip())
    return "\n".join(lines)
