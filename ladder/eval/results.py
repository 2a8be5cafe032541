"""Read the results of the stages `benchmark` and `lm_eval`, and compare each rung with its parent by question.

A row of scores carries the value of each measure ("measures": {name: [value, weight]}), so this module needs no code of
a benchmark.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ladder.data.jsonl import Row, read_json, read_rows
from ladder.eval.compare import Change, Headline, compare, corrected, recorded
from ladder.eval.compare_seeds import compare_seeds, interval_over_seeds
from ladder.pipeline.seeds import original
from ladder.pipeline.stage import UserError


@dataclass(frozen=True)
class Entry:
    """Results of one rung on one benchmark: the summary, and the rows of scores sorted by key.

    provenance: method, parent, parameters and training cost of the rung (stage `provenance`).
    replicas: the results of the rung's other seeds; `score` and `interval` are then those of all seeds.
    """

    benchmark: str
    rung: str
    summary: Row
    rows: list[Row]
    headline: Headline
    provenance: dict[str, Any] = field(default_factory=dict)
    replicas: tuple["Entry", ...] = ()

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
        return round(sum(self.by_seed) / len(self.by_seed), 2) if self.replicas else self._score

    @property
    def by_seed(self) -> list[float]:
        """Score of each seed."""
        return [entry._score for entry in (self, *self.replicas)]

    @property
    def interval(self) -> tuple[float, float]:
        if not self.replicas or len(self.rows) < 2:
            return self._interval
        files = [entry.rows for entry in (self, *self.replicas)]
        low, high = interval_over_seeds(files, self.headline, f"{self.benchmark} {self.rung}")
        return self._interval if low == high else (round(low, 2), round(high, 2))

    @property
    def _score(self) -> float:
        return float(self.summary[self.name])

    @property
    def _interval(self) -> tuple[float, float]:
        low, high = (float(self.summary["interval"][f"{self.name}_{end}"]) for end in ("low", "high"))
        return low, high


def read(folders: dict[str, Path], provenance: Path, rungs: list[str]) -> dict[str, dict[str, Entry]]:
    """Read {benchmark: {rung: entry}} from folders with <rung>.{json,jsonl}, one per benchmark.

    provenance: folder with <rung>.json. A rung's replicas, such as sft/chat+1, are in its entry.
    Errors: UserError when a file is missing, or rungs were asked different questions.
    """
    origins = {rung: read_json(provenance / f"{rung}.json") for rung in rungs}
    found: dict[str, dict[str, Entry]] = {}
    for benchmark, folder in folders.items():
        entries: dict[str, Entry] = {}
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
        found[benchmark] = _with_replicas(entries)
    return found


def _with_replicas(entries: dict[str, Entry]) -> dict[str, Entry]:
    replicas: dict[str, list[Entry]] = {}
    for rung, entry in entries.items():
        replicas.setdefault(original(rung), []).extend([entry] if rung != original(rung) else [])
    return {rung: replace(entries[rung], replicas=tuple(others)) for rung, others in replicas.items()}


def absent(folders: dict[str, Path], rungs: list[str]) -> dict[str, str]:
    """Return {benchmark: reason} for benchmarks that could not be scored for some rung."""
    summaries = ((name, read_json(folder / f"{rung}.json")) for name, folder in folders.items() for rung in rungs)
    return {name: summary["absent"] for name, summary in summaries if "absent" in summary}


def against_parents(found: dict[str, dict[str, Entry]]) -> dict[tuple[str, str], Change]:
    """Return {(benchmark, rung): change} for every rung whose parent was measured too, with Holm's correction over all.

    A rung with replicas is compared over its seeds, each with the parent of the same seed.
    Errors: UserError when a rung and its parent have no question that counts for both.
    """
    return comparisons(found, [])[0]


def comparisons(
    found: dict[str, dict[str, Entry]], asked: list[tuple[str, str]]
) -> tuple[dict[tuple[str, str], Change], dict[tuple[str, str, str], Change]]:
    """Return {(benchmark, rung): change} as `against_parents`, and {(benchmark, rung, other): change} for asked pairs.

    asked: pairs of a rung and another one that it is compared with. Holm's correction is over both.
    """
    parents = {
        (benchmark, rung): _change(entry, entries)
        for benchmark, entries in found.items()
        for rung, entry in entries.items()
        if entry.baseline in entries
    }
    others = {
        (benchmark, rung, other): _change(entries[rung], entries, other)
        for benchmark, entries in found.items()
        for rung, other in asked
    }
    fair = corrected([*parents.values(), *others.values()])
    return dict(zip(parents, fair, strict=False)), dict(zip(others, fair[len(parents) :], strict=True))


def _change(entry: Entry, entries: dict[str, Entry], other: str | None = None) -> Change:
    """Compare an entry with another rung, or with its parent. Errors: UserError when the parent of a seed was not
    measured."""
    names = {"title": entry.benchmark, "rung": entry.rung}
    if other is None and not entry.replicas:
        return compare(entries[entry.baseline].rows, entry.rows, entry.headline, **names)
    seeds = (entry, *entry.replicas)
    if other is not None:
        before = (entries[other], *entries[other].replicas)
        if len(seeds) == len(before) == 1:
            return compare(before[0].rows, entry.rows, entry.headline, **names)
        count = max(len(seeds), len(before))  # a rung without a seed is compared with every seed of the other
        pairs = [(before[n % len(before)].rows, seeds[n % len(seeds)].rows) for n in range(count)]
        return compare_seeds(pairs, entry.headline, **names)
    measured = {one.rung: one for above in entries.values() for one in (above, *above.replicas)}
    if lost := [one for one in seeds if one.baseline not in measured]:
        raise UserError(
            f"data/provenance/{lost[0].rung}.json: its parent {lost[0].baseline} was not measured; expected a replica "
            f"of {entry.baseline}. `ladder repro report` measures it"
        )
    return compare_seeds([(measured[one.baseline].rows, one.rows) for one in seeds], entry.headline, **names)


def show(headline: Headline, number: float, sign: str = "") -> str:
    """Format a number for a table: one decimal for a percentage, else two."""
    return f"{number:{sign}.{1 if headline.share else 2}f}"
