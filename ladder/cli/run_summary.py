"""What `ladder repro` prints at its end: the table of rungs, the findings, the page of answers and the next command."""

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from ladder.cli.progress import Progress, shown
from ladder.cli.table import TABLE, costs, table_lines
from ladder.data.strict_json import parse_json
from ladder.pipeline.errors import UserError
from ladder.report.rung_summary import LEGEND, findings, short_table

PAGE = Path("report/answers.html")
PIPED = 100
"""Width of the summary where there is no terminal."""
INPUTS = ("params.yaml", "dvc.yaml", "links.yaml", "ladder", "stages", "benchmarks", "prompts", "data")
"""What decides the scores, as git keeps it."""
CLAIMS = "report/claims.json"
"""Output of the last stage of the guide, which runs every method."""
RELIABILITY = "docs/reliability.md#determinism"


def nothing_ran() -> list[str]:
    """Return the line that names the table after a run with nothing to do; empty without a table."""
    return (
        [f"Nothing had to run. The table of rungs is in {TABLE}; `ladder table` prints it."] if TABLE.exists() else []
    )


def run_summary(progress: Progress) -> str:
    """Return the summary of a run in which stages ran."""
    ran = f"{_counted(len(progress.ran), 'stage')} ran in {shown(progress.seconds)}."
    path = TABLE.with_suffix(".json")
    if not progress.covers(str(path)) or not path.exists():
        return f"{ran} `ladder repro report` brings the table of rungs up to date."
    try:
        lines = table_lines()
    except UserError as error:  # the stages have succeeded all the same
        return f"{ran}\n{error}"
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPED
    other = other_scores(committed_scores(), lines)
    parts = [
        short_table(lines, width),
        fill(LEGEND, width),
        f"{findings(lines, costs(lines), width)}\n{ran}",
        *([_why(other, changed_inputs())] if other else []),
        f"Page of all answers: {PAGE}\nNext: {_next_command(bool(other), progress.covers(CLAIMS))}",
    ]
    return "\n\n".join(parts)


def committed_scores() -> dict[tuple[str, str], float]:
    """Return {(rung, benchmark): score} of the last commit; empty without its table, or for one of another form."""
    text = _git("show", f"HEAD:./{TABLE.with_suffix('.json')}")
    try:
        lines = parse_json(text) if text else []
        return {(line["rung"], name): one["score"] for line in lines for name, one in line["benchmarks"].items()}
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}


def other_scores(before: Mapping[tuple[str, str], float], lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """List the scores of table.json that differ from earlier ones: "sft/chat on ifeval 25.0 -> 24.1"."""
    found = []
    for line in lines:
        for name, one in line["benchmarks"].items():
            was = before.get((line["rung"], name))
            if was is not None and was != one["score"]:
                found.append(f"{line['rung']} on {name} {was:g} -> {one['score']:g}")
    return found


def changed_inputs() -> bool:
    """Whether a file that decides the scores differs from the last commit."""
    status = _git("status", "--porcelain", "--", *(name for name in INPUTS if Path(name).exists()))
    return bool(status and status.strip())


def _why(other: Sequence[str], changed: bool) -> str:
    """Explain in one line why scores differ from those of the last commit."""
    shown = f"{other[0]}, ..." if other[1:] else other[0]
    begin = f"{_counted(len(other), 'score')} changed since the last commit ({shown})"
    if changed:
        return f"{begin}, and so did parameters, code or data. Another CPU changes scores too: {RELIABILITY}"
    return f"{begin}: another CPU or number of threads adds numbers in another order. See {RELIABILITY}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _next_command(other: bool, everything: bool) -> str:
    if other:
        return "`ladder diff HEAD` tests the changes question by question"
    if everything:
        return "`ladder advise` finds the method for a problem of your own"
    return "`ladder plan` shows the cost of the other methods, `make guide` runs them"


def _git(*words: str) -> str | None:
    """Return what git prints; None if it fails or is not installed."""
    try:
        done = subprocess.run(["git", *words], capture_output=True, check=False)
    except OSError:
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None
