"""Concurrency test: two clones of a repository share one LADDER_WORK and run the same stage at the same time.

    python -m perf.clones [--stage sft generate ...] [--rounds 3] [--output table.json]

Both are started together (perf/forks.py). Either both finish with the bytes of a run without a competitor; or one is
refused, names the process that does the same work, and writes these bytes when it runs again. Otherwise the exit code
is 1.
"""

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from perf.climbed import STAGES, Ladder, longer
from perf.forks import Fork
from perf.outcomes import outcome
from perf.steps import Step


@dataclass
class Tally:
    """Results of one stage's rounds."""

    stage: str
    rounds: int = 0
    both: int = 0
    """Rounds in which both finished."""
    refused: int = 0
    """Rounds in which one was refused and named the other's process."""
    waited: int = 0
    """Rounds in which one logged that it waits for the other."""
    compared_bytes: int = 0
    differing: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return bool(self.differing or self.faults)


def at_once(ladder: Ladder, clone: Path, step: Step, rounds: int) -> Tally:
    """Run a stage in the repository and in its clone at the same time, `rounds` times."""
    tally, whole = Tally(step.name), outcome(ladder.root, step.outputs)
    for _ in range(rounds):
        ladder.fresh(step, clone)
        running = {root: ladder.start(step, root) for root in (ladder.root, clone)}
        codes = {root: one.finish() for root, one in running.items()}
        pids = {root: other.pid for root, other in zip(running, reversed(running.values()), strict=True)}
        reporting = {root: one for root, one in running.items() if codes[root]}
        tally.rounds += 1
        tally.both += not reporting
        tally.waited += any("waiting for it" in one.said for one in running.values())
        for root, one in reporting.items():
            tally.refused += _names(one, pids[root])
            if not _names(one, pids[root]) or len(reporting) > 1:
                tally.faults.append(one.said[-2000:])
            ladder.start(step, root).finish()
        for root in running:
            ended = outcome(root, step.outputs)
            tally.compared_bytes += ended.bytes
            tally.differing += whole.differing(ended)
    return tally


def _names(refused: Fork, pid: int) -> bool:
    """Whether the stage printed no traceback and its last line names the other process.

    A stage that is refused at the moment when the other takes the lock cannot read its PID yet.
    """
    last = (refused.said.strip().splitlines() or [""])[-1]
    return "Traceback" not in refused.said and (str(pid) in last or "another process" in last)


def printed(tallies: list[Tally]) -> str:
    """Format the results as a Markdown table."""
    lines = ["| stage | rounds | both ended | one refused | one waited | bytes compared | differing |"]
    lines += ["|---|---:|---:|---:|---:|---:|---:|"]
    lines += [
        f"| `{one.stage}` | {one.rounds} | {one.both} | {one.refused} | {one.waited} | {one.compared_bytes:,} | "
        f"{len(one.differing)} |"
        for one in tallies
    ]
    return "\n".join(lines)


def together(ladder: Ladder, steps: list[Step], rounds: int) -> list[Tally]:
    """Clone a ladder whose stages have run, and run each step in both at the same time."""
    clone = ladder.folder / "clone"
    shutil.copytree(ladder.root, clone)
    return [at_once(ladder, clone, step, rounds) for step in steps]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", nargs="*", default=list(STAGES), help="stages, or entries such as sft@words")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="the counts as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ladder-clones-") as folder:
        ladder = Ladder(Path(folder).resolve())
        tallies = together(ladder, ladder.climb(options.stage, longer), options.rounds)
    print(printed(tallies))
    for one in tallies:
        for fault in (*one.differing, *one.faults):
            print(f"{one.stage}: {fault}")
    if options.output:
        options.output.write_text(json.dumps([vars(one) for one in tallies], indent=2), encoding="utf-8")
    sys.exit(any(one.failed for one in tallies))


if __name__ == "__main__":
    main()
