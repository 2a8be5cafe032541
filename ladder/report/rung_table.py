"""The table of rungs by benchmark, and the table of comparisons with each rung's baseline."""

from dataclasses import asdict
from typing import Any

from ladder.data.markdown import table
from ladder.eval.compare import Change, Headline
from ladder.eval.results import Entry, show

COMPARISONS = ["rung", "baseline", "benchmark", "change [95% CI]", "p", "p (Holm)", "gained", "lost", "n", "verdict"]
NOTE = (
    "In brackets are 95% bootstrap confidence intervals (CI) over the questions; percent, unless a column says "
    "otherwise. A rung's baseline is its parent, with several parents the first; both are compared on the same n "
    "questions. p is McNemar's exact test where a question is passed or failed, else a permutation test that swaps "
    'its two results; p (Holm) corrects it for all comparisons of this table. "improved" and "regressed" require an '
    "interval that excludes 0 and p (Holm) below 0.05. The intervals do not cover the variance of training with "
    "another seed."
)

SMALLEST_JUDGE = 1e9
"""Parameters below which a local judge measures nothing. The one with 135M parameters prefers the first of two answers
in 32 of 32 pairs, in either order (docs/results.md)."""
CHECK = (
    "**Pipeline check, not a measurement.** {rows} of {of} questions of {name}, judged by a model of {size:.0f}M "
    "parameters. Its grades show that questions, answers and judge fit together and say nothing about the rungs, so "
    "they are in no comparison. `benchmark.{name}.judge.endpoint` names a capable judge."
)

Found = dict[str, dict[str, Entry]]
"""Results by benchmark and rung."""
Changes = dict[tuple[str, str], Change]
"""Comparisons with the baseline, by benchmark and rung."""


def pipeline_checks(found: Found) -> Found:
    """Return the benchmarks that a judge too small to measure anything graded."""
    return {name: entries for name, entries in found.items() if _judge_size(entries) < SMALLEST_JUDGE}


def _judge_size(entries: dict[str, Entry]) -> float:
    judge = next(iter(entries.values())).summary["made_by"].get("judge", {})
    return float(judge.get("parameters", float("inf")))


def check_block(checks: Found) -> str:
    """Format the scores of pipeline checks, each under a text that says what they are; "" without any."""
    blocks = []
    for name, entries in checks.items():
        made_by = next(iter(entries.values())).summary["made_by"]
        said = CHECK.format(rows=made_by["rows"], of=made_by["of"], name=name, size=_judge_size(entries) / 1e6)
        scores = [[rung, score(entry)] for rung, entry in entries.items()]
        blocks.append(f"{said}\n\n{table(['rung', title(entries)], scores)}")
    return "\n\n".join(blocks)


def line(rung: str, found: Found, changes: Changes) -> dict[str, Any]:
    """Return a rung's results on all benchmarks, for table.json.

    Seconds and memory are left out: git keeps the file, and equal results have equal bytes. `ladder table` shows them.
    """
    entry = next(iter(found.values()))[rung]
    origin = entry.provenance
    return {
        "rung": rung,
        "method": origin["method"],
        "parent": origin.get("parent") or "",
        "baseline": entry.baseline,
        "trainable_parameters": origin.get("trainable_parameters") or 0,
        "parameters": origin["parameters"],
        "benchmarks": {name: numbers(entries[rung], changes.get((name, rung))) for name, entries in found.items()},
    }


def numbers(entry: Entry, change: Change | None) -> dict[str, Any]:
    """Return a rung's results on one benchmark, for table.json."""
    return {
        "score": entry.score,
        "interval": list(entry.interval),
        "numbers": {name: value for name, value in entry.summary.items() if name != "made_by"},
        "made_by": entry.summary["made_by"],
        "against_baseline": None if change is None else comparison(change),
    }


def comparison(change: Change) -> dict[str, Any]:
    """Return a comparison for a JSON file, rounded."""
    exact = asdict(change)
    rounded = {name: round(exact[name], 4) for name in ("difference", "low", "high")}
    tests = {"p": round(change.p, 5), "p_holm": round(change.holm, 5)}
    counts = {"gained": change.gained, "lost": change.lost, "n": change.prompts}
    return rounded | tests | counts | {"verdict": change.verdict}


def score_rows(lines: list[dict[str, Any]], found: Found) -> list[list[str]]:
    """Build the table of scores, with a header row."""
    rows = [["rung", "method", "parent", "trainable", *map(title, found.values())]]
    for one in lines:
        share = one["trainable_parameters"] / (one["parameters"] or 1)  # 0 behind an endpoint
        trainable = f"{one['trainable_parameters'] / 1e6:.1f} M ({100 * share:.3g}%)" if share else ""
        cells = [score(entries[one["rung"]]) for entries in found.values()]
        rows.append([one["rung"], one["method"], one["parent"], trainable, *cells])
    return rows


def title(entries: dict[str, Entry]) -> str:
    """Format a benchmark's name, with its unit where that is not percent: "mtbench (grade)"."""
    first = next(iter(entries.values()))
    return first.benchmark if first.headline.share else f"{first.benchmark} ({first.headline.unit})"


def score(entry: Entry) -> str:
    """Format a score with its interval: "26.8 [18.2, 35.9]"."""
    low, high = (show(entry.headline, end) for end in entry.interval)
    return f"{show(entry.headline, entry.score)} [{low}, {high}]"


def comparison_rows(found: Found, changes: Changes) -> list[list[str]]:
    """Build the table of comparisons, with a header row."""
    rows = [COMPARISONS]
    for (name, rung), one in sorted(changes.items(), key=lambda item: list(found[item[0][0]]).index(item[0][1])):
        tests = [f"{p:.2g}" for p in (one.p, one.holm)]
        counts = [str(count) for count in (one.gained, one.lost, one.prompts)]
        entry = found[name][rung]
        rows.append([rung, entry.baseline, name, difference(one, entry.headline), *tests, *counts, one.verdict])
    return rows


def difference(one: Change, headline: Headline) -> str:
    """Format a difference with its interval: "+2.1 [-3.0, 7.2]"."""
    return f"{show(headline, one.difference, '+')} [{show(headline, one.low)}, {show(headline, one.high)}]"


def sizes(found: Found) -> str:
    """Describe the questions, "ifeval: 64 of 541 questions, mean_strict.", and add the judge's caveat if it has one."""
    reported = []
    for name, entries in found.items():
        first = next(iter(entries.values()))
        made_by = first.summary["made_by"]
        reported.append(f"{name}: {made_by['rows']} of {made_by['of']} questions, {first.name}.")
        if caveat := made_by.get("judge", {}).get("caveat"):
            reported.append(f"({name}: {caveat}.)")
    return " ".join(reported)


def page(heading: str, described: str, scores: list[list[str]], comparisons: list[list[str]], checks: str = "") -> str:
    """Format both tables as a Markdown page. The arguments of tables begin with a header row; checks: `check_block`."""
    tables = [table(rows[0], rows[1:]) for rows in (scores, comparisons)]
    parts = [f"# {heading}", tables[0], described, tables[1], NOTE, checks]
    return "\n\n".join(part for part in parts if part) + "\n"


def plain(rows: list[list[str]]) -> str:
    """Format a table for a terminal, in aligned columns."""
    widths = [max(map(len, texts)) for texts in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def points(found: Found) -> list[list[str]]:
    """Return the plot's rows, with a header row."""
    rows = [["cell", "benchmark", "rung", "score", "low", "high"]]
    for name, entries in found.items():
        for rung, entry in entries.items():
            rows.append([f"{name}-{rung}", name, rung, *(f"{x:.2f}" for x in (entry.score, *entry.interval))])
    return rows
