"""Report of a stage that a signal ended, by a small process beside it: SIGKILL leaves the stage no time to say a word.

`start` runs this file as a program, without imports of ours. It waits for the stage to end. The stage says how far it
is, and at an orderly end that it is done; where it ends without that word, the watcher prints one sentence: the
signal, the step, the memory, whether the kernel ran out of memory, and what to do. It ends with the stage.
"""

import atexit
import contextlib
import faulthandler
import fcntl
import math
import os
import select
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

DONE = b"done"
SECOND = 1.0
"""How often memory is looked at."""
ENDING = 30.0
"""Seconds that a process may take to give its memory back, after it has closed its files."""
PIDFD_GET_INFO, PIDFD_INFO_EXIT = 0xC040FF0B, 1 << 3
"""Linux 6.15: how a process ended, after its parent has collected it."""
NEAR = 0.8
"""Of the memory there is: a process killed with a larger peak was likely killed for it."""

TRAINING = (
    "Lower trainer.per_device_train_batch_size and raise trainer.gradient_accumulation_steps by as much (the same "
    "batch in less memory), or set trainer.gradient_checkpointing: true"
)

_watcher: "subprocess.Popen[bytes] | None" = None
_owner = 0
"""The process that is watched; one that it forks says nothing."""


def start(stage: str) -> None:
    """Have this process, which runs `stage`, watched."""
    global _watcher, _owner
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        return
    faulthandler.enable()  # a fault in compiled code prints where Python was
    try:
        process = os.pidfd_open(os.getpid())
        words = [sys.executable, "-I", "-S", str(Path(__file__).resolve())]
        words += [str(number) for number in (os.getpid(), process)]
        _watcher = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=[process])
        os.close(process)
    except OSError:  # an old kernel, or no process to be had: the stage runs unwatched
        return
    _owner = os.getpid()
    tell(stage)
    atexit.register(end)


def tell(said: str) -> None:
    """Say how far the stage is: `step 3 of 40`. The first word is the stage's name."""
    if _watcher and _watcher.stdin and os.getpid() == _owner:
        with contextlib.suppress(OSError, ValueError):  # the watcher was killed, or has ended
            _watcher.stdin.write(said.encode() + b"\n")
            _watcher.stdin.flush()


def end() -> None:
    """Say that the stage is done, and wait for the watcher's end."""
    tell(DONE.decode())
    if _watcher and _watcher.stdin and os.getpid() == _owner:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            _watcher.stdin.close()
            _watcher.wait(5)


def watch(pid: int, process: int, words: int, errors: IO[str]) -> None:
    """Wait for the end of a stage and report one that it did not announce.

    pid: the stage's; process: a descriptor of it; words: the pipe that it writes to.
    """
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):  # sent to the whole group
        signal.signal(ignored, signal.SIG_IGN)
    poll = select.poll()
    poll.register(process, select.POLLIN)
    poll.register(words, select.POLLIN)
    said, peak, kills = b"", 0, Kills()
    until = None
    while True:
        ready = dict(poll.poll(1000 * SECOND))
        if words in ready:
            if chunk := os.read(words, 1 << 16):
                said = _shortened(said + chunk)
            else:  # the stage has closed its files: it ends, or it has started itself again, watched again
                poll.unregister(words)
                until = 0.0 if _done(said) else time.monotonic() + ENDING
        if process in ready:
            break
        if until is not None and time.monotonic() > until:
            return
        peak = max(peak, _peak(pid))
        kills.look()
    with contextlib.suppress(BlockingIOError):
        os.set_blocking(words, False)
        while chunk := os.read(words, 1 << 16):
            said = _shortened(said + chunk)
    if _done(said):
        return
    lines = said.decode(errors="replace").splitlines()
    ended = _ended(pid, process)
    if ended is not None and not os.WIFSIGNALED(ended):
        return
    number = os.WTERMSIG(ended) if ended is not None else None
    if number == signal.SIGTERM and "RANK" in os.environ:
        return  # the launcher ends all ranks when one has failed
    print(sentence(lines, number, peak, memory(), kills.recent()), file=errors, flush=True)


def _done(said: bytes) -> bool:
    return said.endswith(b"\n" + DONE + b"\n")


def _shortened(said: bytes) -> bytes:
    """The first line, the stage's name, and the last two, of which the very last may be unfinished."""
    first, *rest = said.split(b"\n")
    return b"\n".join([first, *rest[-2:]])


def sentence(lines: list[str], number: int | None, peak: int, total: int, kernel: bool) -> str:
    """The report. lines: the stage's name and what it said last; number: the signal's, None where it is not known;
    peak, total: bytes; kernel: whether the kernel has just killed a process for its memory."""
    stage, at = lines[0] if lines else "stage", f" at {lines[-1]}" if lines[1:] else ""
    name = signal.Signals(number).name if number in set(signal.Signals) else number
    report = f"{stage}: {f'killed by {name}' if name else 'ended without a word'}{at}"
    if peak:
        report += f"; peak resident memory {peak / 1e9:.1f} GB of {total / 1e9:.1f} GB"
    if number in (signal.SIGKILL, None) and (kernel or peak > NEAR * total):
        sure = "the kernel ran out of memory" if kernel else "it likely ran out of memory"
        less = TRAINING if at else "Lower the stage's batch or max_new_tokens"
        return f"{report}: {sure}. {less}, or end other programs; then run again: it resumes from the last saved state"
    if number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT):
        return (
            f"{report}: a fault in a library's compiled code, at the place printed above. Run again: it "
            "resumes from the last saved state"
        )
    report += ": ended from outside (kill, a scheduler, a time limit)"
    return f"{report}. Run again: it resumes from the last saved state"


def _ended(pid: int, process: int) -> int | None:
    """How the process ended, as `os.waitpid` says it; None where the kernel no longer reports it."""
    for _ in range(100):
        with contextlib.suppress(OSError):
            info = fcntl.ioctl(process, PIDFD_GET_INFO, struct.pack("Q", PIDFD_INFO_EXIT) + bytes(56))
            if struct.unpack_from("Q", info)[0] & PIDFD_INFO_EXIT:
                return int(struct.unpack_from("i", info, 60)[0])
        fields = _stat(pid)
        if fields[:1] == ["Z"]:  # its parent has not asked yet
            return int(fields[-1])
        if not fields:
            return None
        time.sleep(0.01)
    return None


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat behind the program's name: state, parent, ..., exit code. Empty without the process."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []


def _peak(pid: int) -> int:
    """Most bytes that have been resident at once."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def memory() -> int:
    """Bytes that this process and its like may have: the least limit of its cgroups, or the machine's memory."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for folder in _cgroups():
        for name in ("memory.max", "memory.limit_in_bytes"):
            with contextlib.suppress(OSError, ValueError):
                limits.append(int((folder / name).read_text()))
    return min(limits)


class Kills:
    """When the kernel last killed a process for its memory, of this cgroup where there is one, else of the machine."""

    def __init__(self) -> None:
        self.counts, self.last = _kills(), -math.inf

    def look(self) -> None:
        if (counts := _kills()) != self.counts:
            self.counts, self.last = counts, time.monotonic()

    def recent(self) -> bool:
        """Whether it did in the last seconds; a large process takes some to end."""
        self.look()
        return time.monotonic() - self.last < ENDING


def _kills() -> list[str]:
    """Counts of processes that the kernel killed for memory, as it writes them."""
    files = [folder / name for folder in _cgroups() for name in ("memory.events", "memory.oom_control")]
    for file in [*files, Path("/proc/vmstat")]:
        with contextlib.suppress(OSError):
            if found := [line for line in file.read_text().splitlines() if line.startswith("oom_kill ")]:
                return found
    return []


def _cgroups() -> list[Path]:
    """The folders of this process's memory cgroup and of those above it, of both versions."""
    found = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            roots = {"": ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"], "memory": ["/sys/fs/cgroup/memory"]}
            for root in roots.get(controllers, []):
                inner = Path(root, path.lstrip("/"))
                found += [inner, *(above for above in inner.parents if above.is_relative_to(root))]
    return found


if __name__ == "__main__":
    watch(int(sys.argv[1]), int(sys.argv[2]), sys.stdin.fileno(), sys.stderr)
