"""Progress lines of `ladder repro`: "stage 12 of 34, about 6 min left", before each stage that runs.

DVC evaluates all stages and runs some of them. The total counts those that ended, the one that starts, and those that
`ladder plan` expects to run after it; it shrinks when DVC skips a stage whose input turned out to be the same.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from ladder.pipeline.parallel import parallel
from ladder.plan.changes import MISSING_OUTPUT, Change
from ladder.plan.durations import Durations

CHECKED_OUT = frozenset({"--pull", "--allow-missing"})
"""Options under which a missing output alone does not run a stage."""


class Progress:
    """Count of the stages that a run of DVC has run, and the line before each.

    options: those of `dvc repro`. planned: returns what a run would do with all stages, and how long they take. jobs:
    number of stages at a time.
    """

    def __init__(
        self,
        options: Sequence[str],
        planned: Callable[[], tuple[dict[str, Change], Durations] | None],
        jobs: int = 1,
    ) -> None:
        self.options, self.jobs = frozenset(options), jobs
        self._running: list[str] = []
        self.ran: list[str] = []
        """Stages whose command was started, in order."""
        self._planned = planned
        self._plan: tuple[dict[str, Change], Durations] | None = None
        self._steps: list[str] = []
        self._outs: set[str] = set()
        self._skipped: set[str] = set()
        self.changed: list[str] = []
        """Stages that ran or whose outputs came from DVC's cache, in order."""
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.started

    def evaluated(self, steps: list[str], outs: Iterable[str]) -> None:
        """Note the stages that DVC evaluates, in its order, and their outputs."""
        self._steps, self._outs = steps, set(outs)

    def covers(self, out: str) -> bool:
        """Whether the run evaluates the stage that makes this output."""
        return out in self._outs

    def passed(self, name: str, *, changed: bool) -> None:
        """Note that DVC ended with a stage, which it ran, restored, or skipped as unchanged."""
        self.stopped(name)
        if changed:
            self.changed.append(name)
        else:
            self._skipped.add(name)

    def begin(self, name: str) -> str:
        """Note that a stage's command starts; return its line."""
        if not self.ran:
            self._plan = self._planned()
        self.ran.append(name)
        self._running.append(name)
        if self._plan is None:
            return f"stage {len(self.ran)}"
        following = self._following(self._plan[0])
        durations = self._plan[1]
        durations.refresh([name, *following])
        seconds = durations.left([*self._running, *following])
        word = "at most" if durations.is_bound([name, *following]) else "about"
        about = "" if seconds is None else f", {word} {shown(seconds / self.jobs)} left"
        return f"stage {len(self.ran)} of {len(self.ran) + len(following)}{about}"

    def end(self, name: str, seconds: float) -> None:
        """Note that a stage's command succeeded after so many seconds."""
        self.stopped(name)
        if self._plan is not None:
            self._plan[1].end(name, seconds)

    def stopped(self, name: str) -> None:
        """Note that a stage's command no longer runs."""
        if name in self._running:
            self._running.remove(name)

    def _following(self, found: dict[str, Change]) -> list[str]:
        """Return the stages that have not started and are expected to run."""
        changed = set(self.ran) | set(self.changed)
        following = []
        for step in self._steps:
            if step in changed or step in self._skipped or step not in found:
                continue
            if self._runs(found[step], changed):
                changed.add(step)
                following.append(step)
        return following

    def _runs(self, change: Change, changed: set[str]) -> bool:
        if "--force" in self.options:
            return True
        ignored = MISSING_OUTPUT if CHECKED_OUT & self.options else "\n"
        return any(
            reason.text in changed if reason.kind == "upstream" else not reason.text.startswith(ignored)
            for reason in change.reasons
        )


def shown(seconds: float) -> str:
    """Format a duration for a reader: "40 s", "6 min", "2.5 h"."""
    if seconds < 90:
        return f"{max(10, 10 * round(seconds / 10))} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def planned() -> tuple[dict[str, Change], Durations] | None:
    """Return what a run would do and how long it takes; None if `ladder plan` cannot read the pipeline."""
    from ladder.pipeline.errors import UserError
    from ladder.pipeline.stage import read_written
    from ladder.plan.changes import changes
    from ladder.plan.command import this_machine
    from ladder.plan.durations import durations
    from ladder.plan.expand import read_lock

    try:
        params = read_written()
        found = changes(params)
        return found, durations(params, found, read_lock(), this_machine())
    except (UserError, LookupError, TypeError, ValueError):
        return None  # an estimate must not end a run; a fault of the pipeline is reported by DVC or the stage


@contextmanager
def stages_announced(options: Sequence[str], jobs: int = 1) -> Iterator[Progress]:
    """Let DVC's `repro` in this process print a progress line before each stage; run up to `jobs` at a time."""
    from dvc.repo import reproduce
    from dvc.stage import run

    progress = Progress(options, planned, jobs)
    if "--dry" in options:
        yield progress
        return
    modules: tuple[Any, Any] = (reproduce, run)
    originals = reproduce._reproduce, run.cmd_run
    climb = originals[0] if jobs == 1 else parallel(jobs, say)

    def evaluate(stages: list[Any], *arguments: Any, **keywords: Any) -> Any:
        evaluate_stage = keywords.pop("repro_fn", reproduce._reproduce_stage)

        def one(stage: Any, **each: Any) -> Any:
            result = evaluate_stage(stage, **each)
            progress.passed(stage.addressing, changed=result is not None)
            return result

        outs = (str(out.def_path) for stage in stages for out in stage.outs)
        progress.evaluated([stage.addressing for stage in stages], outs)
        return climb(stages, *arguments, repro_fn=one, **keywords)

    def cmd_run(stage: Any, *arguments: Any, **keywords: Any) -> None:
        name = stage.addressing
        line, started = progress.begin(name), time.monotonic()
        say(line if jobs == 1 else f"{line}: {name}")
        try:
            if jobs == 1:
                originals[1](stage, *arguments, **keywords)
            else:
                stage.run_beside_others()
        except BaseException:
            progress.stopped(name)
            raise
        seconds = time.monotonic() - started
        progress.end(name, seconds)
        if jobs > 1:
            say(f"{name}: done in {seconds:.0f} s" if seconds >= 10 else f"{name}: done in {seconds:.1f} s")

    modules[0]._reproduce, modules[1].cmd_run = evaluate, cmd_run
    records = logging.getLogger("dvc.dvcfile")
    level = records.level
    if jobs > 1:  # "Updating lock file" after each stage would separate the lines that say which one has ended
        records.setLevel(logging.WARNING)
    try:
        yield progress
    finally:
        modules[0]._reproduce, modules[1].cmd_run = originals
        records.setLevel(level)


def say(line: str) -> None:
    """Print a line at once. A closed pipe does not end the run, as with DVC's own lines."""
    with suppress(BrokenPipeError):
        print(line, flush=True)
