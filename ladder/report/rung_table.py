"""The table of rungs by benchmark, and the table of comparisons with each rung's baseline."""

from dataclasses import asdict
from typing import Any

from ladder.data.markdown import table
from ladder.eval.compare import Change, Headline
from ladder.eval.compare_seeds import SeedChange
from ladder.eval.results import Entry, show

COMPARISONS = ["rung", "baseline", "benchmark", "change [95% CI]", "p", "p (Holm)", "gained", "lost", "n", "verdict"]
NOTE = (
    "In brackets are 95% bootstrap confidence intervals (CI) over the questions; percent, unless a column says "
    "otherwise. A rung's baseline is its parent, with several parents the first; both are compared on the same n "
    "questions. p is McNemar's exact test where a question is passed or failed, else a permutation test that swaps "
    'its two results; p (Holm) corrects it for all comparisons of this table. "improved" and "regressed" require an '
    "interval that excludes 0 and p (Holm) below 0.05."
)
ONE_SEED = "The intervals do not cover the variance of training with another seed."
SEEDS = (
    "A score with a range in parentheses is the mean over several seeds, from the lowest to the highest. Each seed has "
    "its own training problems, samples and training, and is compared with the parent of the same seed. The intervals "
    "and p of these rungs cover the variance of seeds and questions: a two-way random-effects model (Searle, Casella "
    "and McCulloch 1992, section 4.3) with Student's t and Satterthwaite's degrees of freedom. A verdict also needs "
    "the same sign on every seed; gained and lost count the answers of all seeds. Other rungs have one seed, whose "
    "variance their intervals do not cover. The pages of answers and attacks show the first seed."
)
BY_SEED = ["lowest to highest seed", "seeds improved"]

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
Pairs = dict[tuple[str, str, str], Change]
"""Comparisons that report.compare asks for, by benchmark, rung and the other rung."""


def note(found: Found) -> str:
    """Describe the intervals and tests of both tables."""
    return f"{NOTE} {SEEDS if _has_seeds(found) else ONE_SEED}"


def _has_seeds(found: Found) -> bool:
    return any(entry.replicas for entries in found.values() for entry in entries.values())


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


def line(rung: str, found: Found, changes: Changes, pairs: Pairs | None = None) -> dict[str, Any]:
    """Return a rung's results on all benchmarks, for table.json.

    Seconds and memory are left out: git keeps the file, and equal results have equal bytes. `ladder table` shows them.
    """
    entry = next(iter(found.values()))[rung]
    origin = entry.provenance
    results = {name: numbers(entries[rung], changes.get((name, rung))) for name, entries in found.items()}
    for (name, one, other), change in (pairs or {}).items():
        if one == rung:
            results[name].setdefault("against", {})[other] = comparison(change)
    return {
        "rung": rung,
        "method": origin["method"],
        "parent": origin.get("parent") or "",
        "baseline": entry.baseline,
        "trainable_parameters": origin.get("trainable_parameters") or 0,
        "parameters": origin["parameters"],
        "benchmarks": results,
    }


def numbers(entry: Entry, change: Change | None) -> dict[str, Any]:
    """Return a rung's results on one benchmark, for table.json."""
    return {
        "score": entry.score,
        "interval": list(entry.interval),
        **({"by_seed": entry.by_seed} if entry.replicas else {}),
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
    seeds = {"by_seed": [round(one, 4) for one in change.by_seed]} if isinstance(change, SeedChange) else {}
    return rounded | tests | counts | seeds | {"verdict": change.verdict}


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
    """Format a score with its interval, and the range of its seeds: "26.8 [18.2, 35.9] (24.0 to 28.1)"."""
    low, high = (show(entry.headline, end) for end in entry.interval)
    ends = (show(entry.headline, end) for end in (min(entry.by_seed), max(entry.by_seed)))
    return f"{show(entry.headline, entry.score)} [{low}, {high}]" + (
        f" ({' to '.join(ends)})" if entry.replicas else ""
    )


def comparison_rows(found: Found, changes: Changes, pairs: Pairs | None = None) -> list[list[str]]:
    """Build the table of comparisons, with a header row: those with the baseline, then the pairs."""
    seeds = _has_seeds(found)
    rows = [[*COMPARISONS[:-1], *BY_SEED, COMPARISONS[-1]] if seeds else COMPARISONS]
    ordered = sorted(changes.items(), key=lambda item: list(found[item[0][0]]).index(item[0][1]))
    asked = [(name, rung, found[name][rung].baseline, one) for (name, rung), one in ordered]
    for name, rung, baseline, one in [*asked, *((*key, one) for key, one in (pairs or {}).items())]:
        tests = [f"{p:.2g}" for p in (one.p, one.holm)]
        counts = [str(count) for count in (one.gained, one.lost, one.prompts)]
        entry = found[name][rung]
        more = _by_seed(one, entry.headline) if seeds else []
        rows.append([rung, baseline, name, difference(one, entry.headline), *tests, *counts, *more, one.verdict])
    return rows


def _by_seed(one: Change, headline: Headline) -> list[str]:
    if not isinstance(one, SeedChange):
        return ["", ""]
    ends = [show(headline, end, "+") for end in (min(one.by_seed), max(one.by_seed))]
    return [" to ".join(ends), f"{one.improved_seeds} of {len(one.by_seed)}"]


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


def page(
    heading: str,
    described: str,
    scores: list[list[str]],
    comparisons: list[list[str]],
    remarks: str,
    checks: str = "",
) -> str:
    """Format both tables, which begin with a header row, as a Markdown page; remarks: `note`, checks: `check_block`."""
    tables = [table(rows[0], rows[1:]) for rows in (scores, comparisons)]
    parts = [f"# {heading}", tables[0], described, tables[1], remarks, checks]
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
