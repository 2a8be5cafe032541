"""Watchdog process that reports how a stage was killed by a signal, because SIGKILL leaves the stage no time to report.

`start` runs this file as a program, without imports from this repository. The stage sends its progress, and a final
message at an orderly end. If the stage ends without the final message, the watcher prints one sentence: the signal,
the step, peak memory, whether the kernel ran out of memory, and a fix. The watcher ends with the stage.
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
"""Interval between memory checks, in seconds."""
ENDING = 30.0
"""Maximum seconds that a process takes to release its memory after it has closed its files."""
PIDFD_GET_INFO, PIDFD_INFO_EXIT = 0xC040FF0B, 1 << 3
"""Linux 6.15 ioctl for the exit status of a process after its parent has reaped it."""
NEAR = 0.8
"""Fraction of available memory. A process killed with a larger peak was likely killed for lack of memory."""

TRAINING = (
    "Lower trainer.per_device_train_batch_size and raise trainer.gradient_accumulation_steps by as much (the same "
    "batch in less memory), or set trainer.gradient_checkpointing: true"
)

_watcher: "subprocess.Popen[bytes] | None" = None
_owner = 0
"""PID of the watched process. A forked child sends no messages."""


def start(stage: str) -> None:
    """Start a watcher for this process, which runs `stage`. Without support by the system, the stage runs unwatched."""
    global _watcher, _owner
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        return
    faulthandler.enable()  # prints the Python traceback of a crash in compiled code
    try:
        process = os.pidfd_open(os.getpid())
        words = [sys.executable, "-I", "-S", str(Path(__file__).resolve())]
        words += [str(number) for number in (os.getpid(), process)]
        _watcher = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=[process])
        os.close(process)
    except OSError:  # an old kernel, or no process could be started: the stage runs unwatched
        return
    _owner = os.getpid()
    report(stage)
    atexit.register(end)


def report(said: str) -> None:
    """Send a progress message such as `step 3 of 40` to the watcher. The first message is the stage's name."""
    if _watcher and _watcher.stdin and os.getpid() == _owner:
        with contextlib.suppress(OSError, ValueError):  # the watcher has ended
            _watcher.stdin.write(said.encode() + b"\n")
            _watcher.stdin.flush()


def end() -> None:
    """Report an orderly end and wait for the watcher to exit."""
    report(DONE.decode())
    if _watcher and _watcher.stdin and os.getpid() == _owner:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            _watcher.stdin.close()
            _watcher.wait(5)


def watch(pid: int, process: int, words: int, errors: IO[str]) -> None:
    """Wait for a stage to end, and report an end that it did not announce.

    pid: the stage's PID; process: a pidfd of it; words: file descriptor of the pipe with its messages; errors: stream
    for the report.
    """
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):  # sent to the whole process group
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
            else:  # the stage closed the pipe: it is ending, or it executed itself again with a new watcher
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
        return  # the launcher terminates all ranks after one has failed
    print(sentence(lines, number, peak, memory(), kills.recent()), file=errors, flush=True)


def _done(said: bytes) -> bool:
    return said.endswith(b"\n" + DONE + b"\n")


def _shortened(said: bytes) -> bytes:
    """Return the first line (the stage's name) and the last two. The very last line may be incomplete."""
    first, *rest = said.split(b"\n")
    return b"\n".join([first, *rest[-2:]])


def sentence(lines: list[str], number: int | None, peak: int, total: int, kernel: bool) -> str:
    """Compose the report of a killed stage.

    lines: the stage's name and its last messages; number: signal number, None if unknown; peak, total: memory in
    bytes; kernel: whether the kernel's OOM killer has just killed a process.
    """
    stage, at = lines[0] if lines else "stage", f" at {lines[-1]}" if lines[1:] else ""
    name = signal.Signals(number).name if number in set(signal.Signals) else number
    report = f"{stage}: {f'killed by {name}' if name else 'ended without a message'}{at}"
    if peak:
        report += f"; peak resident memory {peak / 1e9:.1f} GB of {total / 1e9:.1f} GB"
    if number in (signal.SIGKILL, None) and (kernel or peak > NEAR * total):
        sure = "the kernel ran out of memory" if kernel else "it probably ran out of memory"
        less = TRAINING if at else "Lower the stage's batch or max_new_tokens"
        return f"{report}: {sure}. {less}, or end other programs. Then run again: it resumes from the last saved state."
    if number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT):
        return (
            f"{report}: a fault in a library's compiled code, at the place printed above. Run again: it "
            "resumes from the last saved state."
        )
    report += ": ended by another process (kill, a scheduler, a time limit)"
    return f"{report}. Run again: it resumes from the last saved state."


def _ended(pid: int, process: int) -> int | None:
    """Return the wait status of a process, as `os.waitpid` does; None if the kernel no longer reports it."""
    for _ in range(100):
        with contextlib.suppress(OSError):
            info = fcntl.ioctl(process, PIDFD_GET_INFO, struct.pack("Q", PIDFD_INFO_EXIT) + bytes(56))
            if struct.unpack_from("Q", info)[0] & PIDFD_INFO_EXIT:
                return int(struct.unpack_from("i", info, 60)[0])
        fields = _stat(pid)
        if fields[:1] == ["Z"]:  # a zombie: not reaped by its parent yet
            return int(fields[-1])
        if not fields:
            return None
        time.sleep(0.01)
    return None


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the program's name: state, parent, ..., exit code.

    Empty without the process.
    """
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []


def _peak(pid: int) -> int:
    """Return the peak resident memory of a process in bytes; 0 if unknown."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def memory() -> int:
    """Return the available memory in bytes: the lowest cgroup limit, or the machine's memory."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for folder in _cgroups():
        for name in ("memory.max", "memory.limit_in_bytes"):
            with contextlib.suppress(OSError, ValueError):
                limits.append(int((folder / name).read_text()))
    return min(limits)


class Kills:
    """Tracker of the kernel's OOM kills, in this memory cgroup if there is one, else on the whole machine."""

    def __init__(self) -> None:
        self.counts, self.last = _kills(), -math.inf

    def look(self) -> None:
        """Read the counters and record the time of a new OOM kill."""
        if (counts := _kills()) != self.counts:
            self.counts, self.last = counts, time.monotonic()

    def recent(self) -> bool:
        """Return whether an OOM kill happened in the last ENDING seconds. A large process takes time to end."""
        self.look()
        return time.monotonic() - self.last < ENDING


def _kills() -> list[str]:
    """Return the kernel's OOM kill counters as raw lines."""
    files = [folder / name for folder in _cgroups() for name in ("memory.events", "memory.oom_control")]
    for file in [*files, Path("/proc/vmstat")]:
        with contextlib.suppress(OSError):
            if found := [line for line in file.read_text().splitlines() if line.startswith("oom_kill ")]:
                return found
    return []


def _cgroups() -> list[Path]:
    """Return the folders of this process's memory cgroup and its ancestors, for cgroup versions 1 and 2."""
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
