"""Run stages as forked processes: each starts in 0.1 s, because torch and the libraries are imported only once.

A fork runs the stage's module as `python -m` does, in its own process group, with the imports of this process.
`python -m perf.kills --real` checks that the outputs equal those of separate processes.
"""

import contextlib
import importlib
import os
import runpy
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

POLL = 0.002
LONGEST = 600.0
"""Seconds after which a stage at pico size counts as hung."""


def preload(stages: set[str]) -> None:
    """Import the stages' dependencies. Errors: RuntimeError when an import started a thread: a fork would lack it."""
    for stage in sorted(stages):
        importlib.import_module(f"stages.{stage}")
    if threads():
        raise RuntimeError(f"threads after the imports: {', '.join(threads())}; set OMP_NUM_THREADS=1")


def apart(function: Callable[..., None], *arguments: Any) -> None:
    """Call a function that starts threads in a fork. Errors: RuntimeError when it fails."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            function(*arguments)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        raise RuntimeError(f"{function.__name__} failed")


def threads() -> list[str]:
    """Return the names of this process's threads except the main one and jemalloc's (pyarrow), which survives forks."""
    names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    return [name for name in names[1:] if name != "jemalloc_bg_thd"]


@dataclass
class Fork:
    """A running stage."""

    pid: int
    log: Path
    started: float
    code: int | None = None
    """Exit code, or minus the signal that ended it; None while it runs."""

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def ended(self, *, within: float) -> bool:
        """Wait up to `within` seconds; return whether the stage has ended."""
        until = time.monotonic() + within
        while self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() >= until:
                return False
            else:
                time.sleep(POLL)
        return True

    def send(self, number: int) -> None:
        """Signal the process group. A process that has not ended within a minute is killed. Errors: RuntimeError."""
        os.killpg(self.pid, number)
        if not self.ended(within=60):
            os.killpg(self.pid, signal.SIGKILL)
            self.ended(within=60)
            raise RuntimeError(f"{self.log}: still running a minute after {signal.Signals(number).name}")

    def finish(self) -> int:
        """Wait for the exit code. Errors: TimeoutError after LONGEST, when the stage is killed."""
        if not self.ended(within=LONGEST):
            self.send(signal.SIGKILL)
            raise TimeoutError(f"{self.log}: not done after {LONGEST:.0f} seconds")
        assert self.code is not None
        return self.code

    @property
    def said(self) -> str:
        """Text of the log."""
        return self.log.read_text(errors="replace")


def fork(words: list[str], root: Path, environment: dict[str, str], log: Path) -> Fork:
    """Start `python -m` with these words in a folder; standard output and error go to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        with contextlib.suppress(OSError):  # the process may have ended already
            os.setpgid(pid, pid)  # in both processes, so that no signal comes before it
        return Fork(pid, log, time.monotonic())
    code = 1
    try:
        os.setpgid(0, 0)
        code = _run(words, root, environment, log)
    finally:
        os._exit(code)


def _run(words: list[str], root: Path, environment: dict[str, str], log: Path) -> int:
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(written, stream)
    os.chdir(root)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore SIGINT
    os.environ.update(environment)
    torch.set_num_threads(int(os.environ.get("BENCH_THREADS", "1")))
    tempfile.tempdir = None  # read TMPDIR again
    module, *sys.argv[1:] = words
    sys.modules.pop(module, None)
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        return 0
    except SystemExit as ending:
        if isinstance(ending.code, str):
            print(ending.code, file=sys.stderr)
        return ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
