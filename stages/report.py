"""Report of the ladder: a table of rungs by benchmark, with a test of every rung against its parent, and all answers.

Successful attacks on the refusal benchmarks have a page of their own.

python -m stages.report data/benchmark report
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field

from ladder.data.jsonl import Row, write_json, write_text
from ladder.data.markdown import table, text_table
from ladder.eval.compare import Change as Compared
from ladder.eval.compare import Headline
from ladder.eval.results import Entry, absent, against_parents, read, show, tasks
from ladder.pipeline.stage import Config, UserError, run
from ladder.report.answers_page import Answer, Change, Mark, Part, Question, Standing, answers_page
from ladder.report.attacks_page import redteam_page

AGAINST = ["rung", "parent", "benchmark", "change [95%]", "p", "Holm", "gained", "lost", "questions", "verdict"]
NOTE = (
    "In brackets are 95% bootstrap intervals over the questions; percent, unless a column says otherwise. A rung is "
    "compared with its parent, of several with the first, on the same questions. p is McNemar's exact test where a "
    "question is passed or failed, else a permutation test that swaps its two results; Holm's p corrects it for all "
    'comparisons of this table. "better" and "worse" are said only where the interval excludes 0 and Holm\'s p is '
    "below 0.05. What another seed of the training would have given is in no interval."
)

Found = dict[str, dict[str, Entry]]
Against = dict[tuple[str, str], Compared]


class Params(Config):
    """What stands in the table, and so what is answered and scored at all."""

    benchmarks: list[str] = Field(min_length=1)
    """Benchmarks in the table's order, modules of benchmarks/: `ifeval`. The tasks of `lm_eval` follow them."""
    rungs: list[str] = Field(min_length=1)
    """Rungs in the table's order: `base`, `sft/chat`."""
    examples: int = Field(5, ge=0)
    """Number of successful attacks per rung that redteam.md shows; 0 shows only the counts."""


def line(rung: str, found: Found, against: Against) -> dict[str, Any]:
    """Return a rung's results on all benchmarks, for table.json."""
    ledger = next(iter(found.values()))[rung].ledger
    return {
        "rung": rung,
        "method": ledger["method"],
        "parent": ledger.get("parent") or "",
        "trainable_parameters": ledger.get("trainable_parameters") or 0,
        "parameters": ledger["parameters"],
        "seconds": ledger.get("seconds"),
        "benchmarks": {name: numbers(entries[rung], against.get((name, rung))) for name, entries in found.items()},
    }


def numbers(entry: Entry, against: Compared | None) -> dict[str, Any]:
    """Return a rung's results on one benchmark, for table.json."""
    made_by = {name: value for name, value in entry.summary["made_by"].items() if name != "rung"}
    return {
        "score": entry.score,
        "interval": list(entry.interval),
        "numbers": {name: value for name, value in entry.summary.items() if name != "made_by"},
        "made_by": made_by,
        "against_parent": None if against is None else difference(against),
    }


def difference(against: Compared) -> dict[str, Any]:
    """Return a comparison for table.json, rounded."""
    exact = asdict(against)
    rounded = {name: round(exact[name], 2) for name in ("difference", "low", "high")}
    tests = {name: round(exact[name], 5) for name in ("p", "holm")}
    return rounded | tests | {name: exact[name] for name in ("gained", "lost", "prompts", "verdict")}


def scores(lines: list[dict[str, Any]], found: Found) -> list[list[str]]:
    """Build the table of scores, with a header row."""
    rows = [["rung", "method", "parent", "trainable", *map(column, found.values()), "seconds"]]
    for one in lines:
        share = one["trainable_parameters"] / one["parameters"]
        trainable = f"{one['trainable_parameters'] / 1e6:.1f} M ({100 * share:.3g}%)" if share else ""
        cells = [score(entries[one["rung"]]) for entries in found.values()]
        seconds = "" if one["seconds"] is None else f"{one['seconds']:.0f}"
        rows.append([one["rung"], one["method"], one["parent"], trainable, *cells, seconds])
    return rows


def column(entries: dict[str, Entry]) -> str:
    """Format a benchmark's name, with its unit where that is not percent: "mtbench (grade)"."""
    first = next(iter(entries.values()))
    return first.benchmark if first.headline.share else f"{first.benchmark} ({first.headline.unit})"


def score(entry: Entry) -> str:
    """Format a score with its interval: "26.8 [18.2, 35.9]"."""
    low, high = (show(entry.headline, end) for end in entry.interval)
    return f"{show(entry.headline, entry.score)} [{low}, {high}]"


def comparisons(found: Found, against: Against) -> list[list[str]]:
    """Build the table of comparisons, with a header row."""
    rows = [AGAINST]
    for (name, rung), one in sorted(against.items(), key=lambda item: list(found[item[0][0]]).index(item[0][1])):
        tests = [f"{p:.2g}" for p in (one.p, one.holm)]
        counts = [str(count) for count in (one.gained, one.lost, one.prompts)]
        entry = found[name][rung]
        rows.append([rung, entry.parent, name, change(one, entry.headline), *tests, *counts, one.verdict])
    return rows


def change(one: Compared, headline: Headline) -> str:
    """Format a difference with its interval: "+2.1 [-3.0, 7.2]"."""
    return f"{show(headline, one.difference, '+')} [{show(headline, one.low)}, {show(headline, one.high)}]"


def sizes(found: Found) -> str:
    """Describe the questions, "ifeval: 64 of 541 questions, mean_strict.", and add the judge's caveat if it has one."""
    told = []
    for name, entries in found.items():
        first = next(iter(entries.values()))
        made_by = first.summary["made_by"]
        told.append(f"{name}: {made_by['rows']} of {made_by['of']} questions, {first.name}.")
        if caveat := made_by.get("judge", {}).get("caveat"):
            told.append(f"({name}: {caveat}.)")
    return " ".join(told)


def markdown(rows: list[list[str]]) -> str:
    """Format a table in Markdown."""
    return table(rows[0], rows[1:], rule=[" --- "] * len(rows[0])) + "\n"


def plain(rows: list[list[str]]) -> str:
    """Format a table for a terminal, in aligned columns."""
    return text_table(rows)


def points(found: Found) -> list[list[str]]:
    """Return the plot's rows, with a header row. A cell has the name of its stage entry."""
    rows = [["cell", "benchmark", "rung", "score", "low", "high"]]
    for name, entries in found.items():
        for rung, entry in entries.items():
            rows.append([f"{name}-{rung}", name, rung, *(f"{x:.2f}" for x in (entry.score, *entry.interval))])
    return rows


def part(name: str, entries: dict[str, Entry], against: Against) -> Part:
    """Build a benchmark's section of the page of answers."""
    first = next(iter(entries.values()))
    made_by, headline = first.summary["made_by"], first.headline
    whole = 100.0 if headline.share else max(entry.interval[1] for entry in entries.values()) or 1.0
    standings = []
    for rung, entry in entries.items():
        found = against.get((name, rung))
        low, high = entry.interval
        standings.append(
            Standing(
                rung,
                entry.parent,
                score(entry),
                (100 * entry.score / whole, 100 * low / whole, 100 * high / whole),
                change(found, headline) if found else "",
                found.verdict if found else "",
            )
        )
    title = f"{column(entries)}: {made_by['rows']} of {made_by['of']}"
    return Part(name, title, headline.share, standings, questions(entries))


def questions(entries: dict[str, Entry]) -> list[Question]:
    """Return every question with all answers; each answer is marked with its change against the parent's."""
    asked = []
    for rows in zip(*(entry.rows for entry in entries.values()), strict=True):
        of = dict(zip(entries, rows, strict=True))
        answers = [answer(of[rung], of.get(entry.parent), entry.headline) for rung, entry in entries.items()]
        asked.append(Question(rows[0]["key"], rows[0]["group"], [rows[0]["prompt"], *rows[0]["follow_ups"]], answers))
    return asked


def answer(row: Row, parent: Row | None, headline: Headline) -> Answer:
    """Build one answer for the page."""
    return Answer(
        row["responses"][0],
        marks(row, headline),
        sum(row["tokens"]) if row["tokens"] else None,
        all(row["finished"]),
        headline.share and worth(row, headline) == 1,
        "" if parent is None else turned(row, parent, headline),
        len(row["responses"]),
    )


def worth(row: Row, headline: Headline) -> float | None:
    """Return the row's own score: the mean over the headline's measures with a nonzero weight; None without one."""
    pairs = [row["measures"][name] for name in headline.measures]
    ratios = [value / weight for value, weight in pairs if weight]
    return sum(ratios) / len(ratios) if ratios else None


def turned(row: Row, parent: Row, headline: Headline) -> Change:
    """Classify the change of an answer against the parent's: "gained", "lost", "changed" or ""."""
    now, before = worth(row, headline), worth(parent, headline)
    if now is None or before is None or now == before:
        return "changed" if marks(row, headline) != marks(parent, headline) else ""
    if headline.share and 1 not in (now, before):
        return "changed"
    return "gained" if (now > before) == (headline.better == "higher") else "lost"


def marks(row: Row, headline: Headline) -> list[Mark]:
    """Return the benchmark's verdicts on the answer, or else the values of the headline's measures."""
    if "verdicts" in row:
        return [mark(name, verdict) for name, verdict in row["verdicts"]]
    told = []
    for name in headline.measures:
        value, weight = row["measures"][name]
        share = headline.share and weight and value in (0, weight)
        told.append(mark(name, value > 0 if share else value / weight if weight else "not counted"))
    return told


def mark(name: str, verdict: bool | float | str) -> Mark:
    """Build the mark of one verdict for the page of answers."""
    if isinstance(verdict, bool):
        return Mark(name, "passed" if verdict else "failed")
    if verdict == "loosely":
        return Mark(name, "loosely")
    return Mark(name, told=verdict if isinstance(verdict, str) else f"{verdict:.4g}")


def main(params: Params, scored: Path, output: Path) -> None:
    """Read every rung on every benchmark, compare, and write the table, the plot's points and both pages of answers."""
    names = list(dict.fromkeys([*params.benchmarks, *tasks(scored, params.rungs[0])]))
    lacking = absent(scored, names, params.rungs)
    if not (names := [name for name in names if name not in lacking]):
        raise UserError(f"nothing to show: {'; '.join(f'{name}: not scored: {why}' for name, why in lacking.items())}")
    found = read(scored, names, params.rungs)
    against = against_parents(found)
    lines = [line(rung, found, against) for rung in params.rungs]
    tables = scores(lines, found), comparisons(found, against)
    title = f"The ladder on {', '.join(names)}"
    told = " ".join([sizes(found), *(f"{name}: not scored: {why}." for name, why in lacking.items())])
    text = f"# {title}\n\n{markdown(tables[0])}\n{told}\n\n{markdown(tables[1])}\n{NOTE}\n"
    parts = [part(name, entries, against) for name, entries in found.items()]
    write_text(output / "table.md", text)
    write_json(output / "table.json", lines)
    write_text(output / "rungs.tsv", "".join("\t".join(point) + "\n" for point in points(found)))
    write_text(output / "answers.html", answers_page(title, f"{told} {NOTE}", parts))
    write_text(output / "redteam.md", redteam_page(found, params.examples))
    print(f"{title}\n\n{plain(tables[0])}\n\n{told}\n\n{plain(tables[1])}")


if __name__ == "__main__":
    run(main)
