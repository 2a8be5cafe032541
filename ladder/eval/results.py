"""Read the results of the stages `benchmark` and `lm_eval`, and compare each rung with its parent by question.

A row of scores carries the value of each measure ("measures": {name: [value, weight]}), so this module needs no code of
a benchmark.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ladder.data.jsonl import Row, read_json, read_rows
from ladder.eval.compare import Change, Headline, compare, corrected, recorded
from ladder.pipeline.stage import UserError


@dataclass(frozen=True)
class Entry:
    """Results of one rung on one benchmark: the summary, and the rows of scores sorted by key.

    provenance: method, parent, parameters and training cost of the rung (stage `provenance`).
    """

    benchmark: str
    rung: str
    summary: Row
    rows: list[Row]
    headline: Headline
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def baseline(self) -> str:
        """Rung that it is compared with: its parent; with several parents, the first."""
        return str(self.provenance.get("parent") or "").split(" + ")[0]

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


def read(folders: dict[str, Path], provenance: Path, rungs: list[str]) -> dict[str, dict[str, Entry]]:
    """Read {benchmark: {rung: entry}} from folders with <rung>.{json,jsonl}, one per benchmark.

    provenance: folder with <rung>.json.
    Errors: UserError when a file is missing, or rungs were asked different questions.
    """
    origins = {rung: read_json(provenance / f"{rung}.json") for rung in rungs}
    found: dict[str, dict[str, Entry]] = {}
    for benchmark, folder in folders.items():
        entries = found[benchmark] = {}
        for rung in rungs:
            path = folder / f"{rung}.jsonl"
            summary = read_json(path.with_suffix(".json"))
            headline = recorded(summary, str(path.with_suffix(".json")))
            rows = sorted(read_rows(path), key=lambda row: (len(row["key"]), row["key"]))  # numeric order of numbers
            entries[rung] = Entry(benchmark, rung, summary, rows, headline, origins[rung])
            if [row["key"] for row in rows] != [row["key"] for row in entries[rungs[0]].rows]:
                raise UserError(
                    f"{path}: its prompts differ from those of {rungs[0]}. `dvc repro benchmark` scores both."
                )
    return found


def absent(folders: dict[str, Path], rungs: list[str]) -> dict[str, str]:
    """Return {benchmark: reason} for benchmarks that could not be scored for some rung."""
    summaries = ((name, read_json(folder / f"{rung}.json")) for name, folder in folders.items() for rung in rungs)
    return {name: summary["absent"] for name, summary in summaries if "absent" in summary}


def against_parents(found: dict[str, dict[str, Entry]]) -> dict[tuple[str, str], Change]:
    """Return {(benchmark, rung): change} for every rung whose parent was measured too, with Holm's correction over all.

    Errors: UserError when a rung and its parent have no question that counts for both.
    """
    pairs = {
        (benchmark, rung): compare(entries[entry.baseline].rows, entry.rows, entry.headline, title=benchmark, rung=rung)
        for benchmark, entries in found.items()
        for rung, entry in entries.items()
        if entry.baseline in entries
    }
    return dict(zip(pairs, corrected(list(pairs.values())), strict=True))


def show(headline: Headline, number: float, sign: str = "") -> str:
    """Format a number for a table: one decimal for a percentage, else two."""
    return f"{number:{sign}.{1 if headline.share else 2}f}"
