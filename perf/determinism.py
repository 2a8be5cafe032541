"""Determinism test: run stages in different environments and compare every byte that they write.

    python -m perf.determinism [--stage sft dpo ...] [--each] [--output table.json]

The pico ladder runs once as a reference and once with all of CASES changed together; `--each` also changes them one at
a time. Each run is a process of its own with its own LADDER_WORK. The exit code is 1 when a file differs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from perf.climbed import STAGES, Ladder, longer
from perf.outcomes import Outcome, outcome

MEASURED = (*STAGES, "benchmark")
FIRST = {
    "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "LC_ALL": "C.UTF-8", "TZ": "UTC",
    "COLUMNS": "80",
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A change of the reference's environment."""

    name: str
    variables: dict[str, str]
    umask: int = 0o022
    folder: str = ""
    """Prefix of the paths of the repository and LADDER_WORK."""


CASES = (
    Case("path of the repository and of LADDER_WORK", {}, folder="far/away from it"),
    Case("PYTHONHASHSEED", {"PYTHONHASHSEED": "4711"}),
    Case("two threads", {"BENCH_THREADS": "2"}),
    Case("locale C in ASCII", {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}),
    Case("time zone", {"TZ": "Asia/Kathmandu"}),
    Case("umask", {}, umask=0o077),
    Case("LADDER_SAVE_SECONDS", {"LADDER_SAVE_SECONDS": "0"}),
    Case("width of the terminal", {"COLUMNS": "33"}),
)
ALL = Case(
    "all of these together",
    {name: value for case in CASES for name, value in case.variables.items()},
    umask=0o077,
    folder="far/away from it",
)


def climbed(case: Case, stages: list[str], folder: Path) -> Outcome:
    """Run the stages and everything they need in a process with the case's environment; return all that they write."""
    place = folder / case.folder
    place.mkdir(parents=True, exist_ok=True)
    found = folder / "found.json"
    subprocess.run(
        [sys.executable, "-m", "perf.determinism", "--climb", str(place), "--output", str(found), "--stage", *stages],
        cwd=Path(__file__).parents[1],
        env={**os.environ, **FIRST, **case.variables},
        umask=case.umask,
        check=True,
    )
    return Outcome(**json.loads(found.read_text(encoding="utf-8")))


def climb(folder: Path, stages: list[str]) -> Outcome:
    """Run the stages and everything they need in this process; return all that they write."""
    ladder = Ladder(folder)
    ladder.climb(stages, longer)
    return outcome(ladder.root, [name for step in ladder.ran for name in step.outputs])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", nargs="*", default=list(MEASURED), help="stages, or entries such as sft@words")
    parser.add_argument("--each", action="store_true", help="also change one thing at a time")
    parser.add_argument("--output", type=Path, help="the counts as JSON")
    parser.add_argument("--climb", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.climb:
        options.output.write_text(json.dumps(vars(climb(options.climb, options.stage))), encoding="utf-8")
        return
    rows = []
    with tempfile.TemporaryDirectory(prefix="ladder-determinism-") as scratch:
        first = climbed(Case("reference", {}), options.stage, Path(scratch, "first"))
        print("| changed | files | bytes compared | differing |\n|---|---:|---:|---:|")
        for number, case in enumerate((*(CASES if options.each else ()), ALL)):
            made = climbed(case, options.stage, Path(scratch, str(number)))
            rows.append(
                {
                    "changed": case.name,
                    "files": len(made.hashes),
                    "bytes": made.bytes,
                    "differing": first.differing(made),
                }
            )
            print(f"| {case.name} | {len(made.hashes)} | {made.bytes:,} | {len(first.differing(made))} |", flush=True)
            for path in first.differing(made):
                print(f"    {path}", flush=True)
    if options.output:
        options.output.write_text(json.dumps(rows, indent=2), encoding="utf-8")
    sys.exit(any(row["differing"] for row in rows))


if __name__ == "__main__":
    main()
