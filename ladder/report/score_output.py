"""A table of scores in the formats of `ladder table`: text that fits the terminal, Markdown, CSV and JSON."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from ladder.data.markdown import literal, visible
from ladder.data.markdown import table as markdown_table
from ladder.report.score_table import ScoreTable, columns, notes

FIXED = 2
"""Columns that each block of a wide table repeats: revision and rung."""
GAP = 2
"""Spaces between two columns."""


def blocks(content: Sequence[list[str]], width: int) -> list[list[list[str]]]:
    """Split columns into blocks of at most `width` characters where one column after the fixed ones allows it."""
    shown = [[visible(text) for text in column] for column in content]
    fixed, found = shown[:FIXED], []
    block = list(fixed)
    for column in shown[FIXED:]:
        if len(block) > FIXED and _width([*block, column]) > width:
            found.append(block)
            block = list(fixed)
        block.append(column)
    return [*found, block]


def _width(content: Sequence[list[str]]) -> int:
    return sum(max(map(len, column)) for column in content) + GAP * (len(content) - 1)


def print_text(table: ScoreTable) -> None:
    """Print the table for a terminal, in blocks of benchmarks that fit its width; unlimited without a terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    content = columns(table)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, _width([[visible(text) for text in each] for each in content]))
    for block in blocks(content, console.width):
        grid = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
        for place, (head, *_) in enumerate(block):
            grid.add_column(Text(head), overflow="fold", no_wrap=place < FIXED)
        for cells in zip(*(column[1:] for column in block), strict=True):
            grid.add_row(*map(Text, cells))
        console.print(grid)
        console.print()
    for note in notes(table):
        console.print(Text(visible(note), style="dim"), soft_wrap=not console.is_terminal)


def markdown(table: ScoreTable) -> str:
    """Return the table and its notes as Markdown."""
    head, *rows = (list(row) for row in zip(*columns(table), strict=True))
    return "\n".join([markdown_table(head, rows), "", *(f"- {literal(note)}" for note in notes(table))])


def records(table: ScoreTable) -> list[dict[str, Any]]:
    """Return one JSON object for each revision and rung, with all values."""
    return [
        {
            "revision": line.revision.label,
            "commit": line.revision.commit,
            "date": line.revision.date or None,
            "rung": line.rung,
            "method": line.method,
            "parent": line.parent,
            "params": {key: line.params[key] for key in table.params if key in line.params},
            "benchmarks": {
                name: {
                    **{key: getattr(score, key) for key in ("score", "low", "high", "n", "unit", "better", "seeds")},
                    "settings": score.digest,
                    **_difference(table, line.revision.label, line.rung, name),
                }
                for name, score in line.scores.items()
            },
        }
        for line in table.lines
    ]


def _difference(table: ScoreTable, revision: str, rung: str, name: str) -> dict[str, Any]:
    if table.baseline is None:
        return {}
    change = table.changes.get((revision, rung, name))
    if change is None:
        return {"difference": None}
    numbers = {key: round(getattr(change, key), 4) for key in ("difference", "low", "high")}
    return {"difference": {**numbers, "p": change.p, "p_holm": change.holm, "verdict": change.verdict}}


def document(table: ScoreTable) -> dict[str, Any]:
    """Return the whole table as a JSON document."""
    settings = {
        score.digest: score.settings for line in table.found.lines for score in line.scores.values() if score.settings
    }
    return {
        "baseline": table.baseline,
        "sort": table.sort,
        "rows": records(table),
        "settings": settings,
        "not_compared": table.apart,
        "same_as": {
            label: [point.commit or point.label for point in points] for label, points in table.found.alike.items()
        },
        "not_shown": table.found.notes,
    }


def csv_text(table: ScoreTable) -> str:
    """Return the table as CSV: four columns for each benchmark, and with a baseline four for the difference."""
    names = ["score", "low", "high", "n", "settings"]
    more = ["difference", "low", "high", "p_holm"] if table.baseline else []
    head = ["revision", "commit", "rung", "method", "parent", *table.params]
    for benchmark in table.found.benchmarks:
        head += [f"{benchmark}.{name}" for name in names]
        head += [f"{benchmark}.difference{'' if name == 'difference' else f'.{name}'}" for name in more]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(head)
    for record in records(table):
        row = [record[name] for name in ("revision", "commit", "rung", "method", "parent")]
        row += [record["params"].get(key, "") for key in table.params]
        for benchmark in table.found.benchmarks:
            score = record["benchmarks"].get(benchmark, {})
            change = score.get("difference") or {}
            row += [score.get(name, "") for name in names] + [change.get(name, "") for name in more]
        writer.writerow(["" if value is None else value for value in row])
    return stream.getvalue()
