"""Page of `ladder report`: one HTML file with the results of a revision, or of two, for reading without a network.

It is made from files that stages wrote; nothing is measured or compared again, except with `--compare`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

from ladder.data.jsonl import write_text
from ladder.data.strict_json import encode
from ladder.pipeline.errors import UserError
from ladder.report import page_answers, page_costs, page_data, page_matrix, rung_table
from ladder.report.page_curves import BUCKETS, curves, quantities
from ladder.report.page_files import Files
from ladder.report.page_graph import HEIGHT, WIDTH, Graph, graph
from ladder.report.page_html import page
from ladder.report.page_matrix import Benchmark, Line, Row

TABLE = "report/table.json"


@dataclass(frozen=True)
class Side:
    """What a revision has besides the table of rungs and the answers."""

    label: str
    title: str
    curves: list[dict[str, Any]]
    funnels: list[page_data.Funnel]
    cards: list[dict[str, Any]]
    judge: page_data.Judge | None
    claims: page_data.Claims | None
    costs: list[dict[str, Any]]
    totals: list[tuple[str, int, float]]


class Written(NamedTuple):
    """The written page: its path, size, number of answers, and sentences about absent files."""

    path: Path
    size: int
    rungs: int
    answers: int
    missing: list[str]


def write(revisions: Sequence[str | None], path: Path) -> Written:
    """Write the page of one revision, or of the comparison of two, oldest first; None is the workspace.

    Errors: UserError for an unknown revision, a file of another form, and when no revision has anything to show.
    """
    files = [Files(name) for name in revisions]
    tables = [table(one) for one in files]
    sides = [side(one, lines) for one, lines in zip(files, tables, strict=True)]
    if not any(tables) and not any(one.curves or one.funnels for one in sides):
        raise UserError(
            f"{' and '.join(one.label for one in files)}: nothing to show; expected {TABLE} or plots/. "
            "Run `ladder repro report`"
        )
    lines = tables[-1]
    columns = page_matrix.benchmarks(lines)
    changes, method, apart = _changes(files, tables, columns)
    rows = page_matrix.matrix(lines, columns, changes)
    named = page_answers.columns(tables, [one.label for one in files])
    found = page_answers.answers(files, named, page_matrix.benchmarks([line for each in tables for line in each]))
    missing = [sentence for one in files for sentence in one.missing]
    document = page(
        title=f"The ladder: {', compared with '.join(one.title for one in reversed(files))}",
        compared=len(files) > 1,
        baseline=f"the same rung at {files[0].label}" if len(files) > 1 else "its parent, with several the first",
        rows=rows,
        by_rung={row.rung: row for row in rows},
        benchmarks=columns,
        graph=layout(rows),
        box=(WIDTH, HEIGHT),
        method=method,
        pairs=[] if len(files) > 1 else page_matrix.pairs(lines, columns),
        apart=apart,
        missing=missing,
        sides=sides,
        buckets=BUCKETS,
        quantities=quantities([curve for one in sides for curve in one.curves]),
        curves=[curve_names(one, sides) for one in sides],
        data=encode(_data(sides, named, found)),
    )
    write_text(path, document)
    count = sum(one is not None for each in found for question in each["questions"] for one in question["answers"])
    return Written(path, len(document.encode()), len(rows), count, missing)


def table(files: Files) -> list[Line]:
    """Return report/table.json; empty if it is absent or in a form that is no longer written."""
    lines = files.json(TABLE, list) or []
    try:
        columns = page_matrix.benchmarks(lines)
        page_matrix.matrix(lines, columns, page_matrix.against_baseline(lines, columns))
        page_matrix.pairs(lines, columns)
    except (LookupError, TypeError, AttributeError, ValueError):
        files.skip(TABLE)
        return []
    return lines


def side(files: Files, lines: Sequence[Line]) -> Side:
    """Read the curves, funnels, cards, judge, claims and costs of a revision."""
    pipeline = YAML(typ="safe", pure=True).load(files.read("dvc.yaml") or "") or {}
    return Side(
        files.label,
        files.title,
        curves(files, pipeline.get("stages") or {}),
        page_data.funnels(files),
        page_data.cards(files),
        page_data.judge(files),
        page_data.claims(files),
        page_costs.costs(files, [line["rung"] for line in lines]),
        page_costs.totals(page_costs.stage_seconds()) if files.commit is None else [],
    )


def layout(rows: Sequence[Row]) -> Graph:
    """Return the graph of the rungs of the matrix."""
    return graph({row.rung: row.parents for row in rows}, {row.rung: row.baseline for row in rows})


def curve_names(one: Side, sides: Sequence[Side]) -> list[str]:
    """Return the names of a revision's curves, with the revision where there are two."""
    return [f"{curve['name']} at {one.label}" if len(sides) > 1 else curve["name"] for curve in one.curves]


def _changes(files: list[Files], tables: list[list[Line]], columns: list[Benchmark]) -> tuple[Any, str, list[str]]:
    if len(files) == 1:
        has_seeds = any("by_seed" in one for line in tables[0] for one in line["benchmarks"].values())
        method = f"{rung_table.NOTE} {rung_table.SEEDS if has_seeds else rung_table.ONE_SEED}"
        return page_matrix.against_baseline(tables[0], columns), method, []
    from ladder.report.page_compare import compare

    return compare(files[0], files[1], columns)


def _data(sides: Sequence[Side], named: Sequence[page_answers.Column], found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the data of the scripts: all curves, and the answers."""
    drawn = [
        {**curve, "name": page_answers.visible(name)}
        for one in sides
        for curve, name in zip(one.curves, curve_names(one, sides), strict=True)
    ]
    shown = [{"name": page_answers.visible(column.name), "base": column.base} for column in named]
    return {"curves": drawn, "columns": shown, "benchmarks": found}
