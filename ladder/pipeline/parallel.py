"""Run several stages of DVC's graph at a time, with the records of a sequential `dvc repro`.

`dvc repro` runs one stage at a time (dvc#755). Here every stage is reproduced by DVC's own code in a thread of this
process: what changed, the run cache, dvc.lock and the cache of data are DVC's. Only the commands run at the same time.
DVC is not written for threads, so a thread holds the one turn, and DVC's lock of the repository, while it is in DVC's
code; it gives both up while its command runs, as `dvc repro` gives up the lock.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from ladder.pipeline.errors import UserError
from ladder.pipeline.launch import SCHEDULER

LOGS = Path(".dvc/tmp/ladder/logs")
"""Folder of what stages print while several run."""
MEMORY_GB = 4
"""Memory that one more stage at a time needs on a CPU."""
MOST = 4
"""Largest number of stages at a time that `auto` takes on a CPU. Beyond it, more threads for each are as fast."""
TAIL = 20
"""Lines of a failed stage that are printed."""

Stage = Any
Say = Callable[[str], None]


def jobs_of(text: str) -> int:
    """Return the number of stages at a time that `--jobs` names; `auto` takes one per GPU, or per CPU core and 4 GB.

    Errors: UserError for another text, and for several with a launcher, which takes all GPUs for one stage.
    """
    if text == "auto":
        count = 1 if os.environ.get("LADDER_LAUNCH") else len(gpus()) or min(cores(), _memory_gb() // MEMORY_GB, MOST)
        return max(1, count)
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise UserError(f"--jobs: expected a number of at least 1, or auto, got {text!r}")
    if int(text) > 1 and os.environ.get("LADDER_LAUNCH"):
        raise UserError("--jobs: LADDER_LAUNCH gives all GPUs to one stage; expected 1. Unset one of the two.")
    return int(text)


def cores() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[str]:
    """Names of the visible NVIDIA GPUs, as CUDA_VISIBLE_DEVICES takes them; empty without one."""
    if (chosen := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in chosen.split(",") if name.strip() and name.strip() != "-1"]
    with suppress(OSError, subprocess.SubprocessError):
        listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=True, timeout=30)
        return [str(number) for number, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU ")]
    return []


def _memory_gb() -> int:
    return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 10**9)


def environments(jobs: int) -> list[dict[str, str]]:
    """Variables of the stages that run at the same time, one for each: its GPU, and its share of the CPU cores.

    A number of threads that is set is kept.
    """
    devices, threads = gpus(), str(max(1, cores() // jobs))
    shared = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads), SCHEDULER: str(os.getpid())}
    if not devices:
        return [shared] * jobs
    return [{**shared, "CUDA_VISIBLE_DEVICES": devices[number % len(devices)]} for number in range(jobs)]


class Turn:
    """The right to be in DVC's code, with DVC's lock of the repository."""

    def __init__(self, repo: Any) -> None:
        self.repo, self.lock = repo, threading.Lock()

    @contextmanager
    def taken(self) -> Iterator[None]:
        with self.lock, self.repo.lock:
            yield

    @contextmanager
    def given_up(self) -> Iterator[None]:
        """Let others take the turn. DVC has unlocked the repository and locks it again afterwards."""
        self.lock.release()
        try:
            yield
        finally:
            self.lock.acquire()


class Commands:
    """Runs the commands of stages, each with one of `environments` and a log; can interrupt all of them."""

    def __init__(self, variables: Sequence[dict[str, str]]) -> None:
        self.free: SimpleQueue[dict[str, str]] = SimpleQueue()
        for each in variables:
            self.free.put(each)
        self.running: set[subprocess.Popen[bytes]] = set()

    def run(self, stage: Stage) -> None:
        """Run a stage's commands, as dvc.stage.run.cmd_run does. Errors: DVC's StageCmdFailedError."""
        from dvc.stage import run as dvc
        from dvc.stage.exceptions import StageCmdFailedError

        variables, log = self.free.get(), log_of(stage.addressing)
        log.parent.mkdir(parents=True, exist_ok=True)
        arguments = dvc.prepare_kwargs(stage, run_env=variables)
        try:
            with log.open("wb") as written:
                for command in dvc._enforce_cmd_list(stage.cmd):
                    process = subprocess.Popen(
                        dvc._make_cmd(dvc.get_executable(), command),
                        **arguments, stdin=subprocess.DEVNULL, stdout=written, stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )  # fmt: skip
                    self.running.add(process)
                    try:
                        code = process.wait()
                    finally:
                        self.running.discard(process)
                    if code:
                        raise StageCmdFailedError(command, code)
        finally:
            self.free.put(variables)

    def interrupt(self) -> None:
        """Send SIGINT to the commands that run, and to all that they started.

        Each has a session of its own, so Ctrl-C in a terminal reaches this process alone, and each command once.
        """
        for process in tuple(self.running):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)


def log_of(name: str) -> Path:
    """File of what the last parallel run of a stage printed."""
    return LOGS / f"{name.replace('/', '-')}.log"


def last_lines(log: Path) -> str:
    """The end of a log, without the steps of progress bars."""
    text = log.read_bytes().decode("utf-8", "replace") if log.is_file() else ""
    lines = [line.rsplit("\r", 1)[-1] for line in text.split("\n") if line.strip()]
    return "\n".join(f"  {line}" for line in lines[-TAIL:])


def by_depth(stages: Sequence[Stage], above: dict[Stage, set[Stage]]) -> dict[Stage, int]:
    """Length of the longest chain of stages that wait for each one. `stages` come after those they depend on."""
    depth = dict.fromkeys(stages, 0)
    for stage in reversed(stages):
        for needed in above[stage]:
            depth[needed] = max(depth[needed], depth[stage] + 1)
    return depth


class Schedule:
    """Stages that wait, run and ended. A stage starts when all that it depends on have ended well."""

    def __init__(self, stages: Sequence[Stage], above: dict[Stage, set[Stage]]) -> None:
        self.above, depth = above, by_depth(stages, above)
        order = {stage: place for place, stage in enumerate(stages)}
        self.waiting = sorted(stages, key=lambda stage: (-depth[stage], order[stage]))
        self.ended: set[Stage] = set()
        self.failed: dict[Stage, Exception] = {}

    def next(self, *, stop_at_failure: bool) -> Stage | None:
        """Take the stage to start, the one with the longest chain behind it; None if all that is left must wait."""
        if self.failed and stop_at_failure:
            return None
        ready = next((stage for stage in self.waiting if self.above[stage] <= self.ended), None)
        if ready is not None:
            self.waiting.remove(ready)
        return ready


def parallel(jobs: int, say: Say) -> Callable[..., list[Stage]]:
    """Return a function in place of DVC's `_reproduce` that runs up to `jobs` commands at a time.

    `say` prints a line. Each stage gets a function `run_beside_others`, which what replaces DVC's `cmd_run` must call.
    """

    def reproduce(
        stages: list[Stage],
        graph: Any = None,
        force_downstream: bool = False,
        on_error: str = "fail",
        force: bool = False,
        repro_fn: Callable[..., Stage | None] | None = None,
        **keywords: Any,
    ) -> list[Stage]:
        from dvc.repo.reproduce import _raise_error

        chosen, repo = set(stages), stages[0].repo
        above = {stage: chosen & set(graph.successors(stage)) if graph else set() for stage in stages}
        schedule, turn, commands = Schedule(stages, above), Turn(repo), Commands(environments(jobs))
        forced = dict.fromkeys(stages, force)
        results: list[Stage] = []

        def one(stage: Stage) -> Stage | None:
            assert repro_fn is not None
            with turn.taken():
                stage.run_beside_others = partial(_outside, turn, commands, stage)
                upstream = list(graph.successors(stage)) if graph else []
                result = repro_fn(stage, upstream=upstream, force=forced[stage], **keywords)
                if force_downstream and (result or forced[stage]) and graph:
                    forced.update(dict.fromkeys(graph.predecessors(stage), True))
                return result

        repo.lock.unlock()  # DVC calls this function with the lock; the threads take it in turn
        try:
            with ThreadPoolExecutor(jobs) as pool:
                running: dict[Future[Stage | None], Stage] = {}
                try:
                    while True:
                        while len(running) < jobs and (stage := schedule.next(stop_at_failure=on_error == "fail")):
                            running[pool.submit(one, stage)] = stage
                        if not running:
                            break
                        for future in wait(running, return_when=FIRST_COMPLETED).done:
                            stage = running.pop(future)
                            if error := future.exception():
                                _report(stage, error, say)
                                schedule.failed[stage] = error  # type: ignore[assignment]
                                if on_error == "ignore":
                                    schedule.ended.add(stage)
                            else:
                                schedule.ended.add(stage)
                                results.extend(filter(None, [future.result()]))
                except BaseException:
                    commands.interrupt()
                    raise
        finally:
            repo.lock.lock()
        if schedule.failed and on_error != "ignore":
            if schedule.waiting:
                say(f"did not start, because of the failure above: {shortened(schedule.waiting)}")
            cause = next(iter(schedule.failed.values())) if len(schedule.failed) == 1 else None
            _raise_error(cause, *schedule.failed)
        return results

    return reproduce


def _outside(turn: Turn, commands: Commands, stage: Stage) -> None:
    """Run a stage's commands without the turn."""
    with turn.given_up():
        commands.run(stage)


def shortened(stages: Sequence[Stage], most: int = 5) -> str:
    """Names of stages, the first few: "sft@words, dpo@words and 3 more"."""
    names, more = [stage.addressing for stage in stages[:most]], len(stages) - most
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")


def _report(stage: Stage, error: BaseException, say: Say) -> None:
    log = log_of(stage.addressing)
    say(f"{stage.addressing}: failed: {error}. Its last lines, of {log}:\n{last_lines(log)}")
