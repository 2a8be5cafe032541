"""Command `ladder table`."""

from pathlib import Path
from typing import Any

from ladder.data.strict_json import parse_json
from ladder.pipeline.errors import UserError

TABLE = Path("report/table.md")


def table_text() -> str:
    """Return the text of report/table.md. Errors: UserError if the pipeline has not made it yet."""
    return _read(TABLE).rstrip()


def table_document() -> Any:
    """Return the content of report/table.json. Errors: UserError if it is missing or not JSON."""
    path = TABLE.with_suffix(".json")
    try:
        return parse_json(_read(path))
    except ValueError as error:
        raise UserError(
            f"{path}: not JSON: {error}; expected the file that stage report makes. Run `ladder repro report`"
        ) from None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected the table of rungs. Run `make ladder`") from None
