"""Data of a revision for the page: funnels of filters with rejected rows, data cards, judge reliability, claims."""

import re
from typing import Any, NamedTuple

from ladder.report.page_files import Files

SHOWN = 5
"""Rejected rows per filter on the page."""
ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")
TITLES = {
    "swap.flip_rate": "pairs whose verdict changes when the two answers change places",
    "swap.first": "pairs in which the first answer won in both orders",
    "swap.second": "pairs in which the second answer won in both orders",
    "length.spearman": "Spearman correlation of grade and length",
    "longer.share": "decided pairs that the longer answer won",
    "own.excess": "excess of the judge's preference for its own answers over that of the labels",
    "labels.agreement": "agreement of its choice with the labels",
    "graded.agreement": "agreement of its grades with the labels",
    "injections.fenced.change": "change of the grade by an injected instruction, answer quoted",
    "injections.bare.change": "change of the grade by an injected instruction, answer not quoted",
}
"""Headline of each part of report/judge_reliability.json."""
SIZES = ("pairs", "answers")
CARD = {"data", "title", "rows", "sources", "duplicates", "contamination"}
"""Fields of a data card that the page shows."""


class Example(NamedTuple):
    """A rejected row as data/filter/NAME.rejected.md shows it: an excerpt of its texts."""

    row: str
    reason: str
    texts: list[str]
    """The prompt and, where the row has one, the answer."""


class Step(NamedTuple):
    """A filter: rows before it, after it, and rows that it rejected, with the most frequent reasons."""

    name: str
    before: int
    after: int
    reasons: list[str]
    examples: list[Example]


class Funnel(NamedTuple):
    name: str
    rows_in: int
    rows_out: int
    steps: list[Step]
    edited: int | None
    contaminated: int | None


def funnels(files: Files) -> list[Funnel]:
    """Return the chains of filters, from plots/filter/NAME.tsv and, where present, metrics and rejected rows."""
    found = []
    for path in files.paths("plots/filter", ".tsv"):
        name = path.removeprefix("plots/filter/").removesuffix(".tsv")
        lines = [line.split("\t") for line in (files.read(path) or "").splitlines()[1:]]
        counts = [(label, int(rows)) for label, rows in lines]
        if not counts:
            continue
        metric = files.json(f"metrics/filter/{name}.json", dict) or {}
        rejected = sections(files.read(f"data/filter/{name}.rejected.md") or "")
        steps = [
            Step(label, before, after, *rejected.get(label, ([], [])))
            for (_, before), (label, after) in zip(counts, counts[1:], strict=False)
        ]
        found.append(Funnel(name, counts[0][1], counts[-1][1], steps, metric.get("edited"), metric.get("contaminated")))
    return found


def sections(text: str) -> dict[str, tuple[list[str], list[Example]]]:
    """Return {filter: (frequent reasons, rejected rows)} of a file of rejected rows (ladder/filters/stats.py)."""
    found = {}
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        label, _, body = part.partition("\n")
        head, *rows = re.split(r"^### ", body, flags=re.MULTILINE)
        reasons = [plain(line.removeprefix("- ")) for line in head.splitlines() if line.startswith("- ")]
        found[label.strip()] = (reasons, [example(row) for row in rows[:SHOWN]])
    return found


def example(text: str) -> Example:
    """Read one rejected row: its heading, its reason in bold, and its quoted texts."""
    row, _, body = text.partition("\n")
    head, _, quoted = body.partition("\n> ")
    texts = [re.sub(r"^> ?", "", part.strip(), flags=re.MULTILINE) for part in f"> {quoted}".split("\n\n---\n\n")]
    reason = head.strip().partition("\n")[0].strip("*")
    return Example(plain(row), plain(reason), [text.replace("\\<", "<") for text in texts])


def plain(text: str) -> str:
    """Remove the escapes of Markdown."""
    return ESCAPED.sub(r"\1", text)


def cards(files: Files) -> list[dict[str, Any]]:
    """Return the data cards: data/card/NAME.json."""
    found = []
    for path in files.paths("data/card", ".json"):
        card = files.json(path, dict)
        if card is not None and not card.keys() >= CARD:
            files.skip(path)
        elif card is not None:
            found.append(card)
    return found


class Reliability(NamedTuple):
    """One measurement of a judge: its value, its 95% interval or "", and its size."""

    name: str
    title: str
    value: str
    interval: str
    size: str


class Judge(NamedTuple):
    judge: str
    caveat: str
    data: str
    rows: list[Reliability]


def judge(files: Files) -> Judge | None:
    """Return the measurements in report/judge_reliability.json; None if the stage has not run."""
    found = files.json("report/judge_reliability.json", dict)
    if found is None:
        return None
    rows = []
    for key, title in TITLES.items():
        *parts, last = key.split(".")
        section: Any = found
        for part in parts:
            section = section.get(part, {})
        size = next((f"{section[name]} {name}" for name in SIZES if name in section), "")
        value, *ends = (section.get(f"{last}{end}") for end in ("", "_low", "_high"))
        interval = "" if None in (value, *ends) else f"[{ends[0]:.3g}, {ends[1]:.3g}]"
        rows.append(Reliability(key, title, "not measured" if value is None else f"{value:.3g}", interval, size))
    about = found.get("judge", {})
    return Judge(about.get("judge", ""), about.get("caveat", ""), found.get("made_by", {}).get("data", ""), rows)


class Claims(NamedTuple):
    head: list[str]
    rows: list[list[str]]
    holding: int
    note: str


def claims(files: Files) -> Claims | None:
    """Return the claims in report/claims.json as a table; None if the stage has not run."""
    from ladder.report import claims_page

    path = "report/claims.json"
    found = files.json(path, dict)
    if found is None:
        return None
    listed = found.get("claims", [])
    seeds = any("by_seed" in claim for claim in listed)
    try:
        cells = [claims_page.claim_cells(claim, seeds=seeds) for claim in listed]
    except (KeyError, TypeError):
        files.skip(path)
        return None
    rows = [[str(text).replace("**", "") for text in row] for row in cells]
    more = ["p (Holm)", "lowest to highest seed"] if seeds else []
    head = [*claims_page.CLAIMS[:7], *more, *claims_page.CLAIMS[7:]]
    note = (claims_page.SEEDS if seeds else claims_page.NOTE).replace("*", "")
    return Claims(head, rows, sum(claim["holds"] for claim in listed), note)
