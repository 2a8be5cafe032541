"""Command `ladder why --forward`: what would run again if a parameter or a file changed."""

from typing import Any

from rich.console import Console
from rich.text import Text

from ladder.pipeline.stage import read_written
from ladder.plan.changes import Change
from ladder.plan.durations import read_record
from ladder.plan.forward import forward
from ladder.plan.trees import branches, reported, rich_tree

NOTE = "The most that would run: DVC stops where an output turns out to be the same."


def _seconds(found: dict[str, Change]) -> tuple[float, int]:
    """Return the seconds of the last runs here, and the number of stages without a record."""
    record = read_record()
    known = [float(record[name]["seconds"]) for name in found if name in record]
    return sum(known), len(found) - len(known)


def print_forward(target: str) -> None:
    """Print the stages as trees, each below the input that makes it run."""
    found = forward(target, read_written())
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 10_000
    if not found:
        console.print(Text(f"{target}: no stage reads it, so nothing would run"))
        return
    seconds, unknown = _seconds(found)
    said = f"{len(found)} stages would run after a change of {target}"
    console.print(rich_tree(branches(found), said))
    parts = [f"last runs here: {seconds:.0f} s"] if unknown < len(found) else []
    parts += [f"not recorded here: {unknown} of {len(found)} stages"] if unknown else []
    console.print(Text("; ".join(parts), style="dim"))
    console.print(Text(NOTE, style="dim"))


def forward_document(target: str) -> dict[str, Any]:
    """Return the stages, in running order, with the reasons and the seconds of the last run here (None: unknown)."""
    found, record = forward(target, read_written()), read_record()
    stages = [
        {
            "stage": name,
            "reasons": [reported(reason) for reason in change.reasons if reason.kind != "upstream"],
            "after": [reason.text for reason in change.reasons if reason.kind == "upstream"],
            "last_seconds": record.get(name, {}).get("seconds"),
        }
        for name, change in found.items()
    ]
    return {"target": target, "stages": stages, "note": NOTE}
