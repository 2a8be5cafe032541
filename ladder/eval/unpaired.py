"""Compare two revisions by the scores and intervals that git keeps, where the rows of the questions are in no cache.

The comparison is unpaired: it treats the two scores as if they were measured on different questions. On the same
questions its interval is therefore usually wider than that of the comparison question by question. The interval of the
difference is made of the intervals of the two scores by the method of variance estimates recovery (MOVER; Zou and
Donner, Statistics in Medicine 27, 2008, 1693-1702, equation 2):

    low = d - sqrt((second - second_low)^2 + (first_high - first)^2)
    high = d + sqrt((second_high - second)^2 + (first - first_low)^2),    d = second - first

p is that of a normal distribution whose 95% interval ends at 0 where this interval does.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from scipy import stats

from ladder import statistics
from ladder.data.strict_json import parse_json
from ladder.eval.compare import ALPHA, HELDOUT, Apart
from ladder.eval.revisions import Revision

TABLE, CLAIMS = "report/table.json", "report/claims.json"
"""Files in git with the scores and intervals of benchmarks, and of held-out problems."""
NOTE = (
    f"These rows are unpaired comparisons of the scores in {TABLE} and {CLAIMS}, because the answers of a revision are "
    "neither here nor in DVC's cache or remote. Their 95% CI is made of the intervals of the two scores (MOVER), as if "
    "they were measured on different questions, so it is usually wider than that of a comparison question by question. "
    "p is from the normal distribution with this interval; p (Holm) corrects it for the unpaired comparisons alone."
)


class Summary(NamedTuple):
    """Score of a rung with its 95% interval."""

    score: float
    low: float
    high: float
    n: int | None
    """Number of questions; None if it is not recorded."""
    unit: str
    better: str


@dataclass(frozen=True)
class Unpaired:
    """Second minus first, from two summaries; numbers are in the unit of the score."""

    title: str
    rung: str
    unit: str
    better: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float
    holm: float
    """p with Holm's correction over all unpaired comparisons made together."""
    verdict: str
    first_n: int | None
    second_n: int | None


def summaries(revision: Revision) -> dict[tuple[str, str], Summary]:
    """Return the summaries that a revision has in git, by title and rung; empty without the files.

    Errors: Apart for a file of another form, which older stages wrote.
    """
    found: dict[tuple[str, str], Summary] = {}
    for path, read in ((TABLE, _of_table), (CLAIMS, _of_claims)):
        text = revision.text(path)
        try:
            found |= read(parse_json(text)) if text else {}
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise Apart(f"{path} at {revision.label}: not in the form that is written now: {reason}") from None
    return found


def _of_table(lines: Any) -> dict[tuple[str, str], Summary]:
    found = {}
    for line in lines:
        for name, one in line["benchmarks"].items():
            made_by, (low, high) = one["made_by"], one["interval"]
            headline = made_by["headline"]
            score = Summary(one["score"], low, high, made_by["rows"], headline["unit"], headline["better"])
            found[name, line["rung"]] = score
    return found


def _of_claims(document: Any) -> dict[tuple[str, str], Summary]:
    return {
        (title, rung): Summary(score, low, high, None, HELDOUT.unit, HELDOUT.better)
        for rung, one in document["rungs"].items()
        for title, (score, low, high) in one["measures"].items()
        if title.startswith("heldout/")
    }


def compare(title: str, rung: str, first: Summary, second: Summary) -> Unpaired:
    """Compare two summaries; p is not corrected yet. Errors: Apart for scores of different units."""
    if (first.unit, first.better) != (second.unit, second.better):
        raise Apart(f"{title} {rung}: scores of different units: {first.unit} and {second.unit}")
    difference = second.score - first.score
    low = difference - math.hypot(second.score - second.low, first.high - first.score)
    high = difference + math.hypot(second.high - second.score, first.score - first.low)
    p = _p(difference, low, high)
    verdict = statistics.IMPROVED if (difference > 0) == (second.better == "higher") else statistics.REGRESSED
    return Unpaired(
        title, rung, second.unit, second.better, first.score, second.score, difference, low, high, p, p, verdict,
        first.n, second.n,
    )  # fmt: skip


def _p(difference: float, low: float, high: float) -> float:
    """Two-sided p of a difference whose 95% interval is [low, high]; below 0.05 if and only if it excludes 0."""
    if difference == 0:
        return 1.0
    towards_zero = difference - low if difference > 0 else high - difference
    if towards_zero == 0:
        return 0.0
    return float(2 * stats.norm.sf(abs(difference) / towards_zero * stats.norm.ppf(0.975)))


def corrected(found: list[Unpaired]) -> list[Unpaired]:
    """Apply Holm's correction over all unpaired comparisons, and update their verdicts."""
    adjusted = statistics.holm([one.p for one in found])
    return [
        replace(one, holm=p, verdict=one.verdict if p < ALPHA else statistics.UNCHANGED)
        for one, p in zip(found, adjusted, strict=True)
    ]


def table(found: list[Unpaired], old: str, new: str) -> list[list[str]]:
    """Format the comparisons as a table of texts, with a header row."""
    head = ["unpaired", "rung", old, new, "difference [95% CI]", "p", "p (Holm)", "n", "verdict"]
    return [head, *map(_cells, found)]


def _cells(one: Unpaired) -> list[str]:
    digits = 1 if one.unit == "%" else 2
    scores = [f"{score:.{digits}f}" for score in (one.first, one.second)]
    ends = f"{one.difference:+.{digits}f} [{one.low:.{digits}f}, {one.high:.{digits}f}]"
    counts = {str(n) for n in (one.first_n, one.second_n) if n is not None}
    n = f"{one.first_n} and {one.second_n}" if len(counts) == 2 else "".join(counts)
    return [one.title, one.rung, *scores, ends, f"{one.p:.2g}", f"{one.holm:.2g}", n, one.verdict]
