"""Command `ladder diff`: compare every rung's score on every benchmark between two revisions.

    ladder diff HEAD~1
    ladder diff v1 v2 --prompts 10 --answers

Without a second revision the workspace is compared. `dvc metrics diff` subtracts numbers; this command compares prompt
by prompt. It gives the change of a benchmark's headline with its 95% bootstrap interval over prompts. The test is
McNemar's exact test where a prompt is passed or failed, else a permutation test that swaps the two results of a prompt
at random. Holm's correction covers all comparisons. Where the rows of a revision are in no cache, the scores that git
keeps are compared instead, in a table of their own (ladder/eval/unpaired.py).
"""

import json
import shutil
import sys
from dataclasses import asdict, dataclass, field
from textwrap import fill
from typing import Any, NamedTuple

from ladder.data.jsonl import Row
from ladder.eval import unpaired as by_summary
from ladder.eval.compare import HELDOUT, Apart, Change, Headline, compare, corrected, recorded, solved
from ladder.eval.registry import benchmark
from ladder.eval.revisions import Cell, Missing, Revision
from ladder.eval.unpaired import Summary
from ladder.pipeline.stage import UserError

NOTE = (
    "In brackets are 95% bootstrap confidence intervals (CI) over the n prompts. p is McNemar's exact test where a "
    "prompt is passed or failed, else a permutation test that swaps a prompt's two results; p (Holm) corrects it for "
    'all comparisons here. "improved" and "regressed" require an interval that excludes 0 and p (Holm) below 0.05. '
    "The intervals do not cover the variance of training with another seed."
)

LISTED = 6
"""Maximum number of cells without rows that the text lists."""


class Text(NamedTuple):
    prompt: str
    answer: str


Texts = dict[str, Text]


def texts(rows: list[Row]) -> Texts:
    """Return prompts and answers by the prompt's key; all samples and turns of a prompt are joined."""
    found: Texts = {}
    for row in rows:
        key, said = str(row["key"] if "key" in row else row["id"]), _answers(row)
        if key in found:  # another sample of a held-out prompt
            said = f"{found[key].answer}\n{said}"
        found[key] = Text(_said(row.get("prompt", "")), said)
    return found


def _answers(row: Row) -> str:
    samples = row.get("responses") or [[_said(row["response"] if "response" in row else row.get("completion", ""))]]
    if len(samples) == len(samples[0]) == 1:
        return str(samples[0][0])
    turns = ((sample, turn, text) for sample, turns in enumerate(samples, 1) for turn, text in enumerate(turns, 1))
    return "\n".join(f"[sample {sample}, turn {turn}]\n{text}" for sample, turn, text in turns)


def _said(text: str | list[Row]) -> str:
    return str(text[-1]["content"]) if isinstance(text, list) else text


@dataclass
class Difference:
    """Comparison of two revisions: the changes, the unchanged cells, and the cells not compared, with reasons."""

    old: Revision
    new: Revision
    changes: list[Change] = field(default_factory=list)
    unpaired: list[by_summary.Unpaired] = field(default_factory=list)
    """Comparisons of summaries, where rows are missing."""
    same_summary: list[str] = field(default_factory=list)
    """Cells whose rows are missing and whose scores and intervals are equal."""
    unchanged: list[str] = field(default_factory=list)
    apart: list[str] = field(default_factory=list)
    only: dict[str, list[str]] = field(default_factory=dict)
    texts: dict[tuple[str, str], tuple[Texts, Texts]] = field(default_factory=dict, repr=False)
    """Prompts and answers of each change, by its title and rung."""


def difference(old: Revision, new: Revision, *, across_settings: bool = False) -> Difference:
    """Compare everything that both revisions measured: prompt by prompt, or by summaries where rows are missing.

    Files with identical bytes are not compared and do not count for Holm's correction. Scores made under other
    settings are compared only with `across_settings`.
    Errors: UserError when nothing can be compared.
    """
    found, changes, both = Difference(old, new), [], [place for place in new.cells if place in old.cells]
    summaries = _summaries_of_both(found)
    missing = [place for place in summaries if place not in both]
    for place in both:
        was, now = old.cells[place], new.cells[place]
        if (md5 := old.md5(was.path)) is not None and md5 == new.md5(now.path) or old.same_folder(was.path, new):
            found.unchanged.append(" ".join(place))
            continue
        if (settings := other_settings(old.settings(was), new.settings(now))) and not across_settings:
            found.apart.append(
                f"{' '.join(place)}: made under different settings: {settings} (--across-settings compares)"
            )
            continue
        try:
            first, second = measured(old, was), measured(new, now)
            changes.append(compare(first.rows, second.rows, second.headline, title=now.title, rung=now.rung))
            found.texts[place] = first.texts, second.texts
        except Missing as reason:
            if place in summaries:
                missing.append(place)
            else:
                found.apart.append(str(reason))
        except Apart as reason:
            found.apart.append(str(reason))
    found.changes = corrected(changes)
    _compare_summaries(found, {place: summaries[place] for place in missing})
    if not both and not missing:
        raise UserError(f"{old.label} and {new.label}: no rung was scored on the same benchmark in both")
    if found.apart and not changes and not missing:
        raise UserError("; ".join(found.apart))
    for one, other in ((old, new), (new, old)):
        places = (place for place in one.cells if place not in other.cells and place not in missing)
        found.only[one.label] = [" ".join(place) for place in places]
    return found


def _summaries_of_both(found: Difference) -> dict[tuple[str, str], tuple[Summary, Summary]]:
    """Return the summaries of the cells that both revisions have in git."""
    try:
        before, after = by_summary.summaries(found.old), by_summary.summaries(found.new)
    except Apart as reason:
        found.apart.append(str(reason))
        return {}
    return {place: (before[place], after[place]) for place in after if place in before}


def _compare_summaries(found: Difference, summaries: dict[tuple[str, str], tuple[Summary, Summary]]) -> None:
    """Add the comparisons of cells whose rows are missing."""
    compared = []
    for (title, rung), (first, second) in summaries.items():
        if first == second:
            found.same_summary.append(f"{title} {rung}")
            continue
        try:
            compared.append(by_summary.compare(title, rung, first, second))
        except Apart as reason:
            found.apart.append(str(reason))
    found.unpaired = by_summary.corrected(compared)


def other_settings(old: dict[str, Any], new: dict[str, Any]) -> str:
    """List the settings that differ, `answer.ifeval.max_new_tokens 256 -> 24`; empty when none does."""
    keys = [key for key in old | new if old.get(key) != new.get(key)]
    return ", ".join(f"{key} {_value(old, key)} -> {_value(new, key)}" for key in keys)


def _value(settings: dict[str, Any], key: str) -> str:
    return json.dumps(settings[key], ensure_ascii=False) if key in settings else "(none)"


class Side(NamedTuple):
    """A cell at a revision, with the data to compare."""

    rows: list[Row]
    headline: Headline
    texts: Texts


def measured(revision: Revision, cell: Cell) -> Side:
    """Read a cell's rows, and its measures and headline as recorded.

    For benchmark rows from before these were recorded, the benchmark's current module computes them.
    Errors: those of Revision.rows; Apart for rows that the module cannot read.
    """
    rows, where = revision.rows(cell.path), f"{cell.path} at {revision.label}"
    if not rows:
        raise Apart(f"{where}: not scored: {revision.document(cell.summary).get('absent', 'it has no rows')}")
    if cell.kind == "heldout":
        return Side(solved(rows, where), HELDOUT, texts(rows))
    if "measures" in rows[0]:
        return Side(rows, recorded(revision.document(cell.summary), where), texts(rows))
    found = benchmark(cell.name)
    try:
        worth = [
            {name: [found.measures[name].value(row), found.measures[name].weight(row)] for name in found.headline}
            for row in rows
        ]
    except (KeyError, TypeError) as error:
        raise Apart(f"{where}: not rows that benchmarks/{cell.name}.py reads: {error!r}") from None
    first = found.measures[found.headline[0]]
    rows = [{**row, "measures": measures} for row, measures in zip(rows, worth, strict=True)]
    return Side(rows, Headline(found.headline, first.unit, first.better), texts(rows))


def table(changes: list[Change], old: str, new: str) -> list[list[str]]:
    """Format the comparisons as a table of texts, with a header row."""
    head = ["benchmark", "rung", old, new, "change [95% CI]", "p", "p (Holm)", "gained", "lost", "n", "verdict"]
    return [head, *(cells(change) for change in changes)]


def cells(change: Change) -> list[str]:
    """Format the cells of one comparison."""
    digits = 1 if change.unit == "%" else 2
    ends = f"{change.difference:+.{digits}f} [{change.low:.{digits}f}, {change.high:.{digits}f}]"
    prompts = f"{change.prompts}" if change.prompts == change.of else f"{change.prompts} of {change.of}"
    scores = [f"{score:.{digits}f}" for score in (change.first, change.second)]
    tests = [f"{p:.2g}" for p in (change.p, change.holm)]
    counts = [str(change.gained), str(change.lost), prompts]
    return [change.title, change.rung, *scores, ends, *tests, *counts, change.verdict]


def fitted(rows: list[list[str]], width: int) -> str:
    """Format a table for a terminal of `width` columns: as a table if it fits, else each row as a paragraph."""
    if max(map(len, (text := aligned(rows)).split("\n"))) <= width:
        return text
    head, *others = rows
    cells = ("; ".join(f"{name} {cell}" for name, cell in zip(head[2:], row[2:], strict=True)) for row in others)
    return "\n".join(
        f"{row[0]} {row[1]}\n{fill(text, width, initial_indent='  ', subsequent_indent='  ')}"
        for row, text in zip(others, cells, strict=True)
    )


def aligned(rows: list[list[str]]) -> str:
    """Format a table with columns of equal width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def prompts(found: Difference, change: Change, count: int, *, answers: bool) -> list[dict[str, Any]]:
    """Return the first `count` prompts that changed, largest losses first: key, both results, the prompt and, with
    `answers`, both answers."""
    sides = found.texts[change.title, change.rung]
    shown = []
    for key, (before, after) in list(change.changed.items())[:count]:
        row = {"key": key, "first": before, "second": after, "prompt": sides[1][key].prompt}
        shown.append(row | ({"answers": [side[key].answer for side in sides]} if answers else {}))
    return shown


def plain(found: Difference, count: int, *, answers: bool) -> str:
    """Format the whole comparison for a terminal."""
    old, new = found.old.label, found.new.label
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    parts = [fitted(table(found.changes, old, new), width), fill(NOTE, min(width, 120))] if found.changes else []
    if found.unpaired:
        parts += [fitted(by_summary.table(found.unpaired, old, new), width), fill(by_summary.NOTE, min(width, 120))]
    for change in found.changes if count else []:
        if change.changed:
            parts.append("\n".join(_listed(found, change, count, answers)))
    if found.unchanged:
        parts.append("unchanged, byte for byte: " + ", ".join(found.unchanged))
    if found.same_summary:
        more = f" and {len(found.same_summary) - LISTED} more" if found.same_summary[LISTED:] else ""
        listed = ", ".join(found.same_summary[:LISTED])
        parts.append(f"the same score and interval, without rows to compare question by question: {listed}{more}")
    parts += [f"not compared: {reason}" for reason in found.apart]
    parts += [f"only in {label}: {', '.join(places)}" for label, places in found.only.items() if places]
    return "\n\n".join(parts)


def _listed(found: Difference, change: Change, count: int, answers: bool) -> list[str]:
    lines = [f"{change.title} {change.rung}: {len(change.changed)} prompts changed"]
    for row in prompts(found, change, count, answers=answers):
        lines.append(f"  {row['key']}: {row['first']:g} -> {row['second']:g}  {_clean(row['prompt'], 100)}")
        for label, answer in zip((found.old.label, found.new.label), row.get("answers", ()), strict=False):
            lines += [f"    {label}:", *(f"      {line}" for line in _clean(answer).split("\n"))]
    return lines


def _clean(text: str, most: int = 0) -> str:
    """Remove control characters from a model's text; `most` above 0 also fits it to one line of `most` characters."""
    if most:
        text = " ".join(text.split())
        text = text if len(text) <= most else text[: most - 3] + "..."
    return "".join(sign if sign.isprintable() or sign == "\n" else "\N{REPLACEMENT CHARACTER}" for sign in text)


def document(found: Difference, count: int, *, answers: bool) -> dict[str, Any]:
    """Return the whole comparison as a JSON document."""
    changes = [
        {**asdict(change), "changed": prompts(found, change, count, answers=answers)} for change in found.changes
    ]
    revisions = [{"name": side.label, "commit": side.commit} for side in (found.old, found.new)]
    summaries = {"unpaired": [asdict(one) for one in found.unpaired], "same_summary": found.same_summary}
    kept = {"unchanged": found.unchanged, "not_compared": found.apart, "only": found.only}
    return {"revisions": revisions, "changes": changes, **summaries, **kept}


def report(
    old: str, new: str | None, count: int, *, answers: bool, across_settings: bool = False, as_json: bool = False
) -> Any:
    """Run `ladder diff`: return the comparison as text, or as a JSON document.

    old, new: revisions; None for the workspace. count: changed prompts to show of each score. Errors: UserError.
    """
    found = difference(Revision(old), Revision(new), across_settings=across_settings)
    return (document if as_json else plain)(found, count, answers=answers)
