"""Comparison of two rungs on a benchmark over several seeds, with the variance of seeds and prompts.

ladder/seed_statistics.py has the method and its source.
"""

from dataclasses import dataclass

import numpy as np

from ladder import seed_statistics, statistics
from ladder.data.jsonl import Row
from ladder.eval.compare import Apart, Change, Headline, common, each, results
from ladder.statistics import Array

VERDICTS = {"better": statistics.IMPROVED, "worse": statistics.REGRESSED}
Pair = tuple[list[Row], list[Row]]
"""Rows of the first and of the second rung, of one seed."""


@dataclass(frozen=True)
class SeedChange(Change):
    """Second minus first over several seeds; `gained` and `lost` count the answers of all seeds."""

    by_seed: tuple[float, ...] = ()
    """Difference of each seed."""

    @property
    def improved_seeds(self) -> int:
        """Number of seeds on which the second is better."""
        sign = 1 if self.better == "higher" else -1
        return sum(sign * difference > 0 for difference in self.by_seed)


def verdict_over_seeds(found: seed_statistics.SeedComparison, better: str) -> str:
    """Return the verdict of a comparison over seeds in the words of a report; `better` is higher or lower."""
    verdict = VERDICTS.get(found["verdict"], statistics.UNCHANGED)
    return verdict if better == "higher" else statistics.OPPOSITE[verdict]


def compare_seeds(pairs: list[Pair], of: Headline, *, title: str, rung: str) -> SeedChange:
    """Compare two rungs prompt by prompt over several seeds, one pair of files of rows for each.

    A rung that was made once is the first of every pair. Only prompts that count in all files are compared.
    Errors: as for `compare`, and Apart for a single common prompt.
    """
    where = f"{title} {rung}"
    sides = [results(rows, of, f"{where}: row") for pair in pairs for rows in pair]
    keys, arrays = common(sides, of, where)
    if len(keys) < 2:
        raise Apart(f"{where}: expected at least two common prompts to compare seeds, got {len(keys)}")
    first_SN, second_SN = (
        np.array([seed_statistics.contributions(*one) for one in arrays[place::2]]) for place in (0, 1)
    )
    found = seed_statistics.across_seeds(first_SN, second_SN)
    up, down = (_moved(arrays, of.upwards * sign) for sign in (1.0, -1.0))
    change_S = (second_SN - first_SN).mean(axis=1)
    return SeedChange(
        title=title,
        rung=rung,
        unit=of.unit,
        better=of.better,
        share=of.share,
        first=of.scale * float(first_SN.mean()),
        second=of.scale * float(second_SN.mean()),
        difference=of.scale * found["difference"],
        low=of.scale * found["low"],
        high=of.scale * found["high"],
        p=found["p"],
        holm=found["p"],
        verdict=verdict_over_seeds(found, of.better),
        prompts=len(keys),
        of=len(set[str]().union(*(side.values for side in sides))),
        gained=up,
        lost=down,
        changed={},
        by_seed=tuple(of.scale * float(difference) for difference in change_S),
    )


def interval_over_seeds(files: list[list[Row]], of: Headline, where: str) -> tuple[float, float]:
    """Return the 95% interval of a rung's mean score over seeds, from one file of rows with the same keys for each."""
    sides = [results(rows, of, f"{where}: row") for rows in files]
    values_SN = [
        seed_statistics.contributions(*(np.array([part[key] for key in side.values]).T for part in side[:2]))
        for side in sides
    ]
    low, high = (of.scale * end for end in seed_statistics.interval(np.array(values_SN)))
    return (max(low, 0.0), min(high, of.scale)) if of.share else (low, high)


def _moved(arrays: list[tuple[Array, Array]], sign: float) -> int:
    """Count the prompts of all seeds whose own score rose (sign 1) or fell (sign -1)."""
    pairs = zip(arrays[::2], arrays[1::2], strict=True)
    return sum(int((sign * (each(*second) - each(*first)) > 0).sum()) for first, second in pairs)
