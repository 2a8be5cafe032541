"""Crash test: kill stages at random times, run them again, and compare their outputs with an unbroken run's bytes.

    python -m perf.kills [--stage sft dpo ...] [--kills 20] [--seed 0] [--folder FOLDER] [--output table.json] [--real]

A pico ladder (tests/pico.yaml, longer trainings) runs in a temporary folder without DVC, so that DVC's cache cannot
replace a run of a stage. Each stage has one unbroken run. Then come runs that are killed up to four times each, until
`--kills` signals have hit the stage at work. A signal comes at a uniformly random time of the unbroken run, to the
process group: SIGKILL in six of ten cases, SIGTERM and SIGINT in two each. Every run begins with no outputs and an
empty LADDER_WORK. Checkpoints are saved at every step, or at most every 0.1 seconds. The same seed draws the same times
and signals, but where they hit depends on the machine's speed. The exit code is 1 when a file differs.

Stages are forked from one process (perf/forks.py); with `--real` each is also run once as `python -m stages.NAME`.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from perf import clones
from perf.climbed import STAGES, Ladder, longer
from perf.forks import Fork
from perf.outcomes import Outcome, outcome
from perf.steps import Step

SIGNALS = [signal.SIGKILL] * 6 + [signal.SIGTERM] * 2 + [signal.SIGINT] * 2
MOST = 4
"""Maximum number of kills of one run before it may finish."""
RESUMED = ("resuming at step", "resuming: ", "from cache", "up to date")
"""Log messages of a stage that resumes from the state that an earlier run saved."""
SAVED = ("checkpoint-*/whole.json", "replies/*.state", "replies/*.jsonl")
"""Files of LADDER_WORK that the next run resumes from."""


@dataclass
class Tally:
    """Results of one stage's kills."""

    stage: str
    seconds: float = 0.0
    """Seconds of the unbroken run, without imports of libraries."""
    kills: int = 0
    """Signals sent to a running stage."""
    hits: int = 0
    """Signals sent after the stage had begun to write to its work folder or outputs."""
    signals: dict[str, int] = field(default_factory=dict)
    runs: int = 0
    """Runs that finished, each after its kills."""
    resumed: int = 0
    """Starts that resumed from a checkpoint."""
    ignored: int = 0
    """Runs that finished without logging the checkpoint that was there."""
    outputs: int = 0
    compared_bytes: int = 0
    differing: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """Files that an unbroken run does not leave."""
    faults: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return bool(self.differing or self.ignored or self.faults)


class Soak:
    """Repeated kills of the stages of a pico ladder."""

    def __init__(self, ladder: Ladder, seed: int) -> None:
        self.ladder = ladder
        self.random = random.Random(seed)

    def soak(self, step: Step, kills: int) -> Tally:
        """Kill a stage until `kills` signals have hit it at work."""
        tally = Tally(step.name)
        self.ladder.fresh(step)
        begun, tally.seconds, whole = self._unbroken(step)
        tally.outputs, left = len(whole.hashes), self.ladder.files()
        while tally.hits < kills and tally.runs < 10 * kills:
            self.ladder.fresh(step)
            self._until_done(step, begun, tally, min(MOST, kills - tally.hits))
            ended = self._outcome(step)
            tally.compared_bytes += ended.bytes
            tally.differing += whole.differing(ended)
            tally.left += sorted(str(path.relative_to(self.ladder.folder)) for path in self.ladder.files() - left)
        return tally

    def _unbroken(self, step: Step) -> tuple[float, float, Outcome]:
        """Run a stage; return the seconds until it first writes, the seconds until it ends, and its outputs."""
        running, begun = self.ladder.start(step), None
        while not running.ended(within=0.01):
            if begun is None and self.ladder.at_work(step):
                begun = running.seconds
        if running.code:
            raise SystemExit(f"{step.name}: {running.said}")
        return begun or 0.0, running.seconds, self._outcome(step)

    def _until_done(self, step: Step, begun: float, tally: Tally, most: int) -> None:
        """Start a stage and kill it up to `most` times; then let it finish."""
        save = self.random.choice(["0", "0.1"])
        for attempt in range(most + 1):
            saved = self._saved()
            running = self.ladder.start(step, LADDER_SAVE_SECONDS=save)
            if attempt < most and not running.ended(within=self.random.uniform(begun, tally.seconds)):
                self._kill(step, running, tally)
                tally.resumed += _resumed(running)
                continue
            if running.finish():
                tally.faults.append(f"exit code {running.code}: {running.said[-2000:]}")
            tally.runs += 1
            tally.resumed += _resumed(running)
            tally.ignored += bool(saved) and not _resumed(running)
            return

    def _kill(self, step: Step, running: Fork, tally: Tally) -> None:
        sent = self.random.choice(SIGNALS)
        tally.kills += 1
        tally.hits += self.ladder.at_work(step)
        tally.signals[sent.name] = tally.signals.get(sent.name, 0) + 1
        running.send(sent)
        silent = sent is signal.SIGINT and running.code != 0 and "run again" not in running.said
        if silent or "Traceback" in running.said:
            tally.faults.append(f"{sent.name}: {running.said[-2000:]}")

    def _outcome(self, step: Step) -> Outcome:
        return outcome(self.ladder.root, step.outputs)

    def _saved(self) -> list[Path]:
        """Files to resume from; a store of replies is empty until its first portion is complete."""
        return [path for pattern in SAVED for path in self.ladder.work.rglob(pattern) if path.stat().st_size]


def _resumed(running: Fork) -> bool:
    return any(words in running.said for words in RESUMED)


def real(ladder: Ladder, step: Step) -> list[str]:
    """Return the files that `python -m stages.NAME` writes differently from the fork."""
    forked = outcome(ladder.root, step.outputs)
    ladder.fresh(step)
    environment = {**os.environ, "LADDER_WORK": str(ladder.work), "PYTHONPATH": str(ladder.root)}
    subprocess.run(
        [sys.executable, "-m", *step.words], cwd=ladder.root, env=environment, check=True, capture_output=True
    )
    return forked.differing(outcome(ladder.root, step.outputs))


def printed(tallies: list[Tally]) -> str:
    """Format the results as a Markdown table."""
    lines = [
        "| stage | kills | hit at work | SIGKILL / TERM / INT | runs | resumed | files | bytes compared | differing |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for one in tallies:
        counts = " / ".join(str(one.signals.get(name, 0)) for name in ("SIGKILL", "SIGTERM", "SIGINT"))
        lines.append(
            f"| `{one.stage}` | {one.kills} | {one.hits} | {counts} | {one.runs} | {one.resumed} | {one.outputs} | "
            f"{one.compared_bytes:,} | {len(one.differing)} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", nargs="*", default=list(STAGES), help="stages, or entries such as sft@words")
    parser.add_argument("--kills", type=int, default=20, help="signals per running stage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="folder of the test ladder (default: a temporary folder)")
    parser.add_argument("--clones", type=int, default=0, metavar="ROUNDS", help="then rounds of perf/clones.py")
    parser.add_argument("--output", type=Path, help="the counts as JSON")
    parser.add_argument("--real", action="store_true", help="compare a run in a separate process with the fork's")
    options = parser.parse_args()
    started, tallies = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="ladder-kills-") as scratch:
        ladder = Ladder((options.folder or Path(scratch)).resolve())
        steps, soak = ladder.climb(options.stage, longer), Soak(ladder, options.seed)
        for step in steps:
            one = soak.soak(step, options.kills)
            if options.real:
                one.faults += [f"{path}: not what python -m writes" for path in real(ladder, step)]
            print(f"{printed([one]).splitlines()[-1]} {time.monotonic() - started:.0f} s", flush=True)
            for fault in (*one.differing, *one.faults, *one.left):
                print(f"    {fault}", flush=True)
            tallies.append(one)
        pairs = clones.together(ladder, steps, options.clones) if options.clones else []
    print(f"\n{printed(tallies)}\n\n{clones.printed(pairs)}")
    if options.output:
        counts = {"kills": [vars(one) for one in tallies], "clones": [vars(one) for one in pairs]}
        options.output.write_text(json.dumps(counts, indent=2), encoding="utf-8")
    sys.exit(any(one.failed for one in tallies) or any(one.failed for one in pairs))


if __name__ == "__main__":
    main()
