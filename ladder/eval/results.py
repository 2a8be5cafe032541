"""Read the results of the stage `benchmark`, and compare each rung with its parent, question by question.

A row of scores carries the value of each measure ("measures": {name: [value, weight]}), so this module needs no code of
a benchmark.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ladder.data.jsonl import Row, read_json, read_rows
from ladder.eval.compare import Change, Headline, compare, corrected, recorded
from ladder.pipeline.stage import UserError


@dataclass(frozen=True)
class Entry:
    """Results of one rung on one benchmark: the summary, and the rows of scores sorted by key."""

    benchmark: str
    rung: str
    summary: Row
    rows: list[Row]
    headline: Headline

    @property
    def ledger(self) -> dict[str, Any]:
        """Provenance of the rung: method, parent, parameters, seconds."""
        return dict(self.summary["made_by"]["rung"])

    @property
    def parent(self) -> str:
        """Rung that it is compared with; with several parents, the first."""
        return str(self.ledger.get("parent") or "").split(" + ")[0]

    @property
    def name(self) -> str:
        """Name of the headline in the summary."""
        return str(self.summary["made_by"]["headline"]["name"])

    @property
    def score(self) -> float:
        return float(self.summary[self.name])

    @property
    def interval(self) -> tuple[float, float]:
        low, high = (float(self.summary["interval"][f"{self.name}_{end}"]) for end in ("low", "high"))
        return low, high


def read(folder: Path, benchmarks: list[str], rungs: list[str]) -> dict[str, dict[str, Entry]]:
    """Read {benchmark: {rung: entry}} from a folder <benchmark>/<rung>.{json,jsonl}.

    Errors: UserError when a file is missing, or rungs were asked different questions.
    """
    found: dict[str, dict[str, Entry]] = {}
    for benchmark in benchmarks:
        entries = found[benchmark] = {}
        for rung in rungs:
            path = folder / benchmark / f"{rung}.jsonl"
            summary = read_json(path.with_suffix(".json"))
            headline = recorded(summary, str(path.with_suffix(".json")))
            rows = sorted(read_rows(path), key=lambda row: (len(row["key"]), row["key"]))  # numeric order of numbers
            entries[rung] = Entry(benchmark, rung, summary, rows, headline)
            if [row["key"] for row in rows] != [row["key"] for row in entries[rungs[0]].rows]:
                raise UserError(
                    f"{path}: its prompts differ from those of {rungs[0]}. Run respond and benchmark for both."
                )
    return found


def absent(folder: Path, benchmarks: list[str], rungs: list[str]) -> dict[str, str]:
    """Return {benchmark: reason} for benchmarks that could not be scored for some rung."""
    summaries = ((name, read_json(folder / name / f"{rung}.json")) for name in benchmarks for rung in rungs)
    return {name: summary["absent"] for name, summary in summaries if "absent" in summary}


def tasks(folder: Path, rung: str) -> list[str]:
    """Return the entries of stage `lm_eval` that a rung was measured on, sorted by name."""
    found = sorted(path for path in folder.iterdir() if (path / f"{rung}.json").is_file())
    return [path.name for path in found if "task" in read_json(path / f"{rung}.json")["made_by"]]


def against_parents(found: dict[str, dict[str, Entry]]) -> dict[tuple[str, str], Change]:
    """Return {(benchmark, rung): change} for every rung whose parent was measured too, with Holm's correction over all.

    Errors: UserError when a rung and its parent have no question that counts for both.
    """
    pairs = {
        (benchmark, rung): compare(entries[entry.parent].rows, entry.rows, entry.headline, title=benchmark, rung=rung)
        for benchmark, entries in found.items()
        for rung, entry in entries.items()
        if entry.parent in entries
    }
    return dict(zip(pairs, corrected(list(pairs.values())), strict=True))


def show(headline: Headline, number: float, sign: str = "") -> str:
    """Format a number for a table: one decimal for a percentage, else two."""
    return f"{number:{sign}.{1 if headline.share else 2}f}"
