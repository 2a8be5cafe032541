"""Command `ladder table`."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from ladder.data.markdown import table
from ladder.data.strict_json import parse_json
from ladder.pipeline.errors import UserError

TABLE = Path("report/table.md")
PROVENANCE = Path("data/provenance")
"""One file per rung of the table: its method, and the time and memory of its training."""


def table_text() -> str:
    """Return the text of report/table.md, and the costs of its rungs as far as they are recorded here.

    Errors: UserError if the pipeline has not made the table yet.
    """
    text = _read(TABLE).rstrip()
    lines = table_lines() if TABLE.with_suffix(".json").exists() else []
    made = {rung: cost for rung, cost in costs(lines).items() if cost["seconds"] is not None}
    if not made:
        return text
    rows = [[rung, f"{cost['seconds']:.0f}", _shown(cost["memory_gb"])] for rung, cost in made.items()]
    return f"{text}\n\n{table(['rung', 'seconds to make', 'memory GB'], rows)}"


def table_document() -> list[dict[str, Any]]:
    """Return the content of report/table.json with the costs of each rung. Errors: as for `table_lines`."""
    lines = table_lines()
    made = costs(lines)
    return [{**line, **made.get(line["rung"], {})} for line in lines]


def table_lines() -> list[dict[str, Any]]:
    """Return the content of report/table.json, one line per rung.

    Errors: UserError if it is missing or not the file that stage `report` makes.
    """
    path = TABLE.with_suffix(".json")
    try:
        lines = parse_json(_read(path))
    except ValueError as error:
        raise _foreign(path, f"not JSON: {error}") from None
    if not isinstance(lines, list) or not all(isinstance(line, dict) and "rung" in line for line in lines):
        raise _foreign(path, "not a list of rungs")
    return lines


def _foreign(path: Path, problem: str) -> UserError:
    return UserError(f"{path}: {problem}; expected the file that stage report makes. Run `ladder repro report`")


def costs(lines: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Return {rung: {seconds, memory_gb}} of the rungs of the table, from their records; None where unknown.

    They differ from run to run, so git does not keep them. Rungs without a record here are left out.
    """
    found = {}
    for line in lines:
        path = PROVENANCE / f"{line['rung']}.json"
        with suppress(OSError, ValueError, AttributeError):
            record = parse_json(path.read_text(encoding="utf-8"))
            found[str(line["rung"])] = {name: _number(record.get(name)) for name in ("seconds", "memory_gb")}
    return found


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected the table of rungs. Run `make ladder`") from None
