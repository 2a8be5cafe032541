"""One table of the ladder: every rung's score, how sure it is, and whether it beats its parent; and all answers.

python -m stages.report data/benchmark/ifeval metrics/ifeval report
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from ladder import ifeval, statistics
from ladder.answers import Answer, Change, Question, Standing, answers_page
from ladder.rows import Row, read_json, read_rows, write_json, write_text
from ladder.run import Refused, Section, run

HEADER = ["rung", "method", "parent", "trainable", "strict", "loose", "seconds", "against parent"]
NOTE = (
    "Strict and loose are the mean of prompt-level and instruction-level accuracy, as model makers quote IFEval, in "
    "percent; in brackets the 95% bootstrap interval over prompts. A rung is compared on the same prompts with its "
    'parent, of several with the first: the difference of the strict scores, its 95% interval, and "better" or '
    '"worse" only where that interval excludes 0 and a paired permutation test gives p < 0.05. Of twenty '
    "comparisons of equals, one may look different by chance."
)


class Params(Section):
    """Which rungs stand in the table."""

    benchmark: str
    """The benchmark's entry: `ifeval`."""
    rungs: list[str] = Field(min_length=1)
    """The rungs in the table's order: `base`, `sft/chat`."""


@dataclass(frozen=True)
class Entry:
    """One rung as read: its ledger, its summary, its scores by prompt."""

    rung: str
    ledger: dict[str, Any]
    summary: dict[str, Any]
    scores: list[Row]

    @property
    def parent(self) -> str:
        """The rung it is compared with."""
        return str(self.ledger.get("parent") or "").split(" + ")[0]


def read(params: Params, scores: Path, metrics: Path) -> dict[str, Entry]:
    """Every rung's files. Errors: Refused when one is missing or rungs were asked different prompts."""
    entries = {}
    for rung in params.rungs:
        summary = read_json(metrics / f"{rung}.json")
        for key in ("mean_strict", "mean_loose", "interval", "made_by"):
            if key not in summary:
                raise Refused(f"{metrics / rung}.json: expected the key {key!r}")
        path = scores / f"{rung}.jsonl"
        ledger = summary["made_by"]["rung"]
        entries[rung] = Entry(rung, ledger, summary, sorted(read_rows(path), key=lambda row: row["key"]))
        keys = [[row["key"] for row in entries[name].scores] for name in (params.rungs[0], rung)]
        if keys[0] != keys[1]:
            raise Refused(f"{path}: its prompts are not those of {params.rungs[0]}; run respond and benchmark for both")
    return entries


def compare(entry: Entry, entries: dict[str, Entry]) -> statistics.Comparison | None:
    """Strict scores against the parent's, in percent; None for a rung whose parent is not in the table."""
    if entry.parent not in entries:
        return None
    first, asked = ifeval.outcomes(entries[entry.parent].scores, "strict")
    second, _ = ifeval.outcomes(entry.scores, "strict")
    found = statistics.paired(first, second, asked)
    for name in ("difference", "low", "high"):
        found[name] = round(100 * found[name], 2)
    found["p"] = round(found["p"], 5)
    return found


def line(entry: Entry, against: statistics.Comparison | None) -> dict[str, Any]:
    """A rung's numbers, for table.json and for the table."""
    summary, interval, made_by = entry.summary, entry.summary["interval"], entry.summary["made_by"]
    return {
        "rung": entry.rung,
        "method": entry.ledger["method"],
        "parent": entry.ledger.get("parent") or "",
        "trainable_parameters": entry.ledger.get("trainable_parameters") or 0,
        "parameters": entry.ledger["parameters"],
        "strict": summary["mean_strict"],
        "strict_interval": [interval["mean_strict_low"], interval["mean_strict_high"]],
        "loose": summary["mean_loose"],
        "loose_interval": [interval["mean_loose_low"], interval["mean_loose_high"]],
        "finished": made_by["finished"],
        "seconds": entry.ledger.get("seconds"),
        "prompts": made_by["rows"],
        "of": made_by["of"],
        "against_parent": against,
    }


def cells(line: dict[str, Any]) -> list[str]:
    """The same as the table's texts."""
    share = line["trainable_parameters"] / line["parameters"]
    trainable = f"{line['trainable_parameters'] / 1e6:.1f} M ({100 * share:.3g}%)" if share else ""
    scores = ["{:.1f} [{:.1f}, {:.1f}]".format(line[kind], *line[f"{kind}_interval"]) for kind in ("strict", "loose")]
    seconds = "" if line["seconds"] is None else f"{line['seconds']:.0f}"
    found = line["against_parent"]
    against = f"{change(found)} {found['verdict']}" if found else ""
    return [line["rung"], line["method"], line["parent"], trainable, *scores, seconds, against]


def change(found: statistics.Comparison | None) -> str:
    """A difference with its interval: "+2.1 [-3.0, 7.2]"."""
    return "" if found is None else f"{found['difference']:+.1f} [{found['low']:.1f}, {found['high']:.1f}]"


def markdown(title: str, rows: list[list[str]]) -> str:
    """The table in Markdown, with its note."""
    table = [HEADER, ["---"] * len(HEADER), *rows]
    return f"# {title}\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in table) + f"\n{NOTE}\n"


def plain(rows: list[list[str]]) -> str:
    """The table for a terminal, in aligned columns."""
    widths = [max(map(len, column)) for column in zip(HEADER, *rows, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in [HEADER, *rows]
    )


def questions(entries: dict[str, Entry]) -> list[Question]:
    """Every prompt with all answers, each marked by how it changed against the parent's."""
    by_prompt = zip(*(entry.scores for entry in entries.values()), strict=True)
    found = []
    for rows in by_prompt:
        of = dict(zip(entries, rows, strict=True))
        answers = [answer(row, of.get(entry.parent)) for entry, row in zip(entries.values(), rows, strict=True)]
        found.append(Question(key=str(rows[0]["key"]), prompt=rows[0]["prompt"], answers=answers))
    return found


def answer(row: Row, parent: Row | None) -> Answer:
    """One answer for the page."""
    turn: Change = ""
    if parent is not None and row["strict"] != parent["strict"]:
        now, before = all(row["strict"]), all(parent["strict"])
        turn = "gained" if now and not before else "lost" if before and not now else "changed"
    names = [name.split(":")[1].replace("_", " ") for name in row["instruction_id_list"]]
    checks = list(zip(names, row["strict"], row["loose"], strict=True))
    return Answer(row["response"], checks, row["tokens"], row["finished"], turn)


def main(params: Params, scores: Path, metrics: Path, output: Path) -> None:
    """Read every rung, compare, write the table, the plot's points and the page of answers."""
    entries = read(params, scores, metrics)
    lines = [line(entry, compare(entry, entries)) for entry in entries.values()]
    rows = [cells(one) for one in lines]
    title = f"The ladder on {params.benchmark}: {lines[0]['prompts']} of {lines[0]['of']} prompts"
    points = [["rung", "score", "low", "high"]]
    points += [[one["rung"], *(f"{x:.2f}" for x in (one["strict"], *one["strict_interval"]))] for one in lines]
    standings = [
        Standing(
            rung=one["rung"],
            parent=one["parent"],
            score=one["strict"],
            interval=(one["strict_interval"][0], one["strict_interval"][1]),
            change=change(one["against_parent"]),
            verdict=one["against_parent"]["verdict"] if one["against_parent"] else "",
        )
        for one in lines
    ]
    write_text(output / "table.md", markdown(title, rows))
    write_json(output / "table.json", lines)
    write_text(output / "rungs.tsv", "".join("\t".join(point) + "\n" for point in points))
    write_text(output / "answers.html", answers_page(title, NOTE, standings, questions(entries)))
    print(f"{title}\n\n{plain(rows)}")


if __name__ == "__main__":
    run(main)
