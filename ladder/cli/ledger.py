"""Command `ladder ledger`: what the runs cost, as text, CSV or JSON."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ladder.cli.output import print_json
from ladder.pipeline.stage import read_written
from ladder.report.ledger import Ledger, Run, ledger

UNKNOWN = "not recorded"
COLUMNS = (
    "stage", "rung", "revisions", "seconds", "origin", "memory_gb", "tokens", "tokens_per_second", "endpoint",
)  # fmt: skip
NOTE = (
    "here: the last process of the stage on this machine; earlier ones that were killed are not in it, and "
    "answers from a cache took no time again. record: the training or conversion alone, from metrics/, which ran "
    "elsewhere or was restored from DVC's cache. Memory and tokens/s are of trainings; tokens are trained (tokens/s * "
    "seconds), of teacher logits, or generated. API calls and money are recorded for each model, not for each stage."
)


def show_ledger(revisions: Sequence[str] | None, form: str) -> None:
    """Print the costs at these revisions, or of all with None. Errors: UserError."""
    found = ledger(revisions, read_written())
    if form == "csv":
        print(csv_text(found), end="")
    elif form == "json":
        print_json(document(found))
    else:
        print_text(found, every_run=revisions is not None)


def csv_text(found: Ledger) -> str:
    """Return one line per run; a number that is not recorded is an empty cell."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for run in found.runs:
        content = vars(run) | {"revisions": " ".join(run.revisions)}
        writer.writerow(["" if content[name] is None else content[name] for name in COLUMNS])
    return stream.getvalue()


def document(found: Ledger) -> dict[str, Any]:
    """Return runs, bills, rungs and totals; a number that is not recorded is null."""
    return {
        "runs": [vars(run) for run in found.runs],
        "endpoints": [vars(bill) for bill in found.bills],
        "rungs": found.rungs,
        "total": totals(found),
        "note": NOTE,
    }


def totals(found: Ledger) -> dict[str, Any]:
    """Return the sums by origin; they are not added up, because they are of different things."""
    tokens = [run.tokens for run in found.runs if run.tokens is not None]
    money = [bill.money for bill in found.bills if bill.money is not None]
    memory = [run.memory_gb for run in found.runs if run.memory_gb is not None]
    return {
        "runs": len(found.runs),
        "seconds_here": round(found.seconds("here"), 2) if found.count("here") else None,
        "runs_here": found.count("here"),
        "seconds_of_records": round(found.seconds("record"), 2) if found.count("record") else None,
        "runs_of_records": found.count("record"),
        "runs_not_recorded": found.count(""),
        "peak_memory_gb": max(memory, default=None),
        "tokens": sum(tokens) if tokens else None,
        "money": sum(money) if money else None,
        "models_without_money": sum(bill.money is None for bill in found.bills),
    }


def print_text(found: Ledger, *, every_run: bool) -> None:
    """Print tables of runs, rungs and endpoints. every_run: one line per run, else one line per stage."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 10_000
    console.print(_runs(found.runs) if every_run else _stages(found.runs))
    console.print()
    if found.rungs:
        console.print(_rungs(found))
        console.print()
    if found.bills:
        console.print(_bills(found))
        console.print()
    for line in _sums(found):
        console.print(Text(line))
    console.print(Text(NOTE, style="dim"))


def _grid(*heads: str) -> Table:
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for place, head in enumerate(heads):
        grid.add_column(head, justify="right" if place else "left", overflow="fold")
    return grid


def _shown(value: float | None, digits: int = 0, *, known: bool = True) -> str:
    """Format a number; a dash where the stage has none."""
    return f"{value:,.{digits}f}" if value is not None else UNKNOWN if known else "-"


def _runs(runs: Sequence[Run]) -> Table:
    heads = ["stage", "seconds", "basis", "peak GB", "tokens", "tokens/s"]
    asked = any(run.endpoint for run in runs)
    grid = _grid(*heads, *(["endpoint"] if asked else []))
    for run in runs:
        trained = run.memory_gb is not None or run.tokens_per_second is not None
        grid.add_row(
            Text(run.stage),
            _shown(run.seconds, 1),
            run.origin or "-",
            _shown(run.memory_gb, 2, known=trained),
            _shown(run.tokens, known=trained),
            _shown(run.tokens_per_second, 1, known=trained),
            *([Text(run.endpoint or "-")] if asked else []),
        )
    return grid


def _stages(runs: Sequence[Run]) -> Table:
    """Return one line per stage of all revisions: how many results, and the sums of their seconds."""
    grid = _grid("stage", "results", "seconds here", "in records", "not recorded", "peak GB", "tokens")
    for name in dict.fromkeys(run.stage for run in runs):
        own = Ledger([run for run in runs if run.stage == name])
        sums = totals(own)
        grid.add_row(
            Text(name),
            str(len(own.runs)),
            _shown(sums["seconds_here"], 1, known=False),
            _shown(sums["seconds_of_records"], 1, known=False),
            str(sums["runs_not_recorded"] or "-"),
            _shown(sums["peak_memory_gb"], 2, known=False),
            _shown(sums["tokens"], known=False),
        )
    return grid


def _rungs(found: Ledger) -> Table:
    grid = _grid("rung", "seconds", "with all before it", "stages not recorded", "answers", "peak GB")
    for rung, one in found.rungs.items():
        grid.add_row(
            Text(rung),
            _shown(one["seconds"], 1),
            _shown(one["with_inputs"], 1),
            str(one["not_recorded"] or "-"),
            _shown(one["answers"], 1),
            _shown(one["memory_gb"], 2, known=False),
        )
    return grid


def _bills(found: Ledger) -> Table:
    grid = _grid("endpoint's model", "calls", "prompt tokens", "reply tokens", "money", "damaged lines")
    for bill in found.bills:
        counts = (_shown(each) for each in (bill.calls, bill.prompt_tokens, bill.tokens))
        grid.add_row(Text(bill.model), *counts, _shown(bill.money, 4), str(bill.damaged or "-"))
    return grid


def _sums(found: Ledger) -> list[str]:
    sums = totals(found)
    said = [f"{sums['runs']} results:"]
    if sums["runs_here"]:
        said.append(f"  {_shown(sums['seconds_here'], 1)} s in {sums['runs_here']} processes here")
    if sums["runs_of_records"]:
        said.append(f"  {_shown(sums['seconds_of_records'], 1)} s in {sums['runs_of_records']} records of other runs")
    if sums["runs_not_recorded"]:
        said.append(f"  seconds {UNKNOWN}: {sums['runs_not_recorded']}")
    said.append(f"  peak memory {_shown(sums['peak_memory_gb'], 2)} GB, tokens {_shown(sums['tokens'])}")
    if found.bills:
        said.append(
            f"  money {_shown(sums['money'], 4)}; {sums['models_without_money']} models without prices or replies"
        )
    else:
        said.append("  money: no stage asks an endpoint")
    return said
