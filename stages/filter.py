"""Keep the rows worth learning; every rejected row stands in a ledger with its reason.

python -m stages.filter chat data/generate/chat.jsonl data/task data/filter/chat.jsonl \
    data/filter/chat.rejected.jsonl metrics/filter/chat.json
"""

import inspect
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from ladder import filters
from ladder.chat import check_messages
from ladder.rows import Row, read_rows, write_json, write_rows
from ladder.run import Refused, Section, run


def named(steps: list[dict[str, dict[str, Any]]]) -> list[dict[str, dict[str, Any]]]:
    """A pydantic validator: each step is one function of ladder/filters.py with its own parameters."""
    known = {name for name, value in inspect.getmembers(filters, inspect.isfunction) if "rows" in _parameters(value)}
    for step in steps:
        if len(step) != 1 or (name := next(iter(step))) not in known:
            raise ValueError(f"expected one of {', '.join(sorted(known))} with its parameters, got {step}")
        wanted = _parameters(getattr(filters, name)) - {"rows", "benchmarks"}
        if set(step[name] or {}) != wanted:
            raise ValueError(f"{name} takes {', '.join(sorted(wanted)) or 'no parameters'}, got {step[name]}")
    return steps


def _parameters(function: Any) -> set[str]:
    return set(inspect.signature(function).parameters)


class Params(Section):
    data: str
    """The file of rows under data/: `generate/chat`."""
    steps: Annotated[list[dict[str, Any]], AfterValidator(named)]
    """Filters in order, each `name: {parameters}`; ladder/filters.py says what each keeps."""


def normalised(row: Row, where: str) -> Row:
    """The row with its texts normalised. Errors: Refused when it is not `prompt, completion`."""
    texts = {}
    for name in ("prompt", "completion"):
        messages = check_messages(row.get(name), f"{where}: {name}")
        texts[name] = [{**message, "content": filters.normalise(message["content"])} for message in messages]
    return {**row, **texts}


def apply(rows: list[Row], step: dict[str, Any], benchmarks: dict[str, list[Row]]) -> tuple[list[Row], list[Row]]:
    """(kept, rejected) of one step; a rejected row carries `filter` and `reason`."""
    name, parameters = next(iter(step.items()))
    function = getattr(filters, name)
    given = {"benchmarks": benchmarks} if "benchmarks" in _parameters(function) else {}
    reasons = function(rows, **(parameters or {}), **given)
    kept = [row for row, reason in zip(rows, reasons, strict=True) if reason is None]
    rejected = [
        {"filter": name, "reason": reason, **row}
        for row, reason in zip(rows, reasons, strict=True)
        if reason is not None
    ]
    return kept, rejected


def main(params: Params, data: Path, tasks: Path, output: Path, ledger: Path, metrics: Path) -> None:
    benchmarks = {path.stem: read_rows(path) for path in sorted(tasks.glob("*.jsonl"))}
    kept = [normalised(row, f"{data}: row {number}") for number, row in enumerate(read_rows(data), start=1)]
    total, rejected, counts = len(kept), [], {}
    for step in params.steps:
        kept, gone = apply(kept, step, benchmarks)
        rejected += gone
        counts[next(iter(step))] = len(gone)
        if not kept:
            raise Refused(f"{data}: no row is left after {next(iter(step))}: {gone[0]['reason']}, and so on")
    write_rows(output, kept)
    write_rows(ledger, rejected)
    write_json(
        metrics,
        {"in": total, "kept": len(kept), "edited": sum(row.get("edited", False) for row in kept), "rejected": counts},
    )


if __name__ == "__main__":
    run(main, named=True)
