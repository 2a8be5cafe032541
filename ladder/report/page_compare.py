"""Changes between two revisions for the page of `ladder report --compare`, from the comparison of `ladder diff`."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ladder.eval import unpaired
from ladder.eval.diff import NOTE, Difference, difference
from ladder.pipeline.errors import UserError
from ladder.report.page_files import Files
from ladder.report.page_matrix import Benchmark, Change, changed, number
from ladder.statistics import UNCHANGED


class Compared(NamedTuple):
    """Changes by (benchmark, rung); the text that states the method; reasons for what was not compared."""

    changes: dict[tuple[str, str], Change]
    method: str
    apart: list[str]


def compare(old: Files, new: Files, columns: Sequence[Benchmark]) -> Compared:
    """Compare every rung with itself at the older revision, question by question where the answers are available."""
    known = {column.name: column for column in columns if not column.check}
    try:
        found = difference(old, new)
    except UserError as reason:  # nothing in common: the page shows both revisions and states why
        return Compared({}, "", [str(reason)])
    changes = _paired(found, known) | _unpaired(found, known) | _equal(found, known)
    methods = [NOTE] * bool(found.changes) + [unpaired.NOTE] * bool(found.unpaired)
    only = [f"only in {label}: {', '.join(places)}" for label, places in found.only.items() if places]
    return Compared(changes, " ".join(methods), [*found.apart, *only])


def _paired(found: Difference, known: Mapping[str, Benchmark]) -> dict[tuple[str, str], Change]:
    return {
        (one.title, one.rung): changed(
            known[one.title],
            f"{one.rung} at {found.old.label}",
            *(one.difference, one.low, one.high),
            holm=one.holm,
            n=str(one.prompts),
            verdict=one.verdict,
            gained=one.gained,
            lost=one.lost,
        )
        for one in found.changes
        if one.title in known
    }


def _unpaired(found: Difference, known: Mapping[str, Benchmark]) -> dict[tuple[str, str], Change]:
    return {
        (one.title, one.rung): changed(
            known[one.title],
            f"{one.rung} at {found.old.label}",
            *(one.difference, one.low, one.high),
            holm=one.holm,
            n=f"{one.first_n or '?'} and {one.second_n or '?'}",
            verdict=one.verdict,
            note=f"unpaired, from scores and intervals; p (Holm) {one.holm:.2g}",
        )
        for one in found.unpaired
        if one.title in known
    }


def _equal(found: Difference, known: Mapping[str, Benchmark]) -> dict[tuple[str, str], Change]:
    """Return the cells with equal bytes, or with equal scores where the rows are missing. Their change is 0."""
    notes = {place: "identical answers" for place in found.unchanged}
    notes |= {place: "same score and interval, answers absent" for place in found.same_summary}
    equal = {}
    for place, note in notes.items():
        title, _, rung = place.partition(" ")
        if column := known.get(title):
            against, text = f"{rung} at {found.old.label}", number(0, column, "+")
            equal[title, rung] = Change(against, 0.0, text, "", "", str(column.n), UNCHANGED, 0, 0, note=note)
    return equal
