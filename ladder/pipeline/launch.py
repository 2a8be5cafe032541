"""Process placement of a stage: launcher, GPU leases, and termination together with the parent process.

These settings are environment variables, not part of dvc.yaml or params.yaml, so that a move to another machine
reruns nothing:

- LADDER_LAUNCH: the command that starts a training stage on several GPUs, for example `torchrun --nproc-per-node 8`
  or `accelerate launch --config_file launch/fsdp2.yaml`. Default: the single line of the file .launch; without that
  file, the stage runs in this process.
- LADDER_GPUS: the GPUs of this machine that stages share, for example `0,1,2,3`. A stage waits for a free GPU; a
  launched stage waits for all of them.
- LADDER_WORK: folder for checkpoints of unfinished trainings, caches of answers, replies and verdicts, and GPU locks.
  Default: the user's cache folder.
"""

import ctypes
import fcntl
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from ladder.pipeline import watcher

PR_SET_PDEATHSIG = 1
LEASED = "LADDER_LEASED"
"""Environment variable with the PID of the process that holds the lease.

That process executes itself again under the same PID, so that it sees only its own GPUs.
"""


def rank() -> int:
    """Return this process's rank (RANK); 0 without a launcher."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Return the number of processes that train one rung (WORLD_SIZE); 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def stage_name() -> str:
    """Return the stage that `python -m stages.NAME` is about to run, as DVC names it (`sft@chat`); otherwise "".

    This works only while Python locates the module and imports its package: sys.argv then begins with `-m`.
    """
    if sys.argv[:1] != ["-m"]:
        return ""
    module = sys.orig_argv[sys.orig_argv.index("-m") + 1]
    if not module.startswith("stages."):
        return ""
    name = os.environ.get("DVC_STAGE") or module.removeprefix("stages.")
    return f"{name} (rank {rank()})" if rank() else name


def cache() -> Path:
    """Return the work folder for files that outlive a run but are not outputs.

    DVC would delete them inside the repository.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(os.environ.get("LADDER_WORK") or home / "ladder")


def launcher() -> list[str]:
    """Return the words of LADDER_LAUNCH or of the file .launch; an empty list if the stage runs in this process."""
    if "RANK" in os.environ:  # launched already
        return []
    local = Path(".launch")
    line = os.environ.get("LADDER_LAUNCH", local.read_text(encoding="utf-8") if local.is_file() else "")
    return shlex.split(line)


def launched(command: list[str], stage: str, arguments: list[str]) -> int:
    """Run the stage under the launcher and return its exit code."""
    words = [*command, "-m", f"stages.{stage}", *arguments]
    print(f"{stage}: launched by {shlex.join(command)}", flush=True)
    # SIGTERM, not SIGKILL: it lets a launcher stop its workers, on other machines too.
    child = subprocess.Popen(words, preexec_fn=lambda: _die_with_parent(signal.SIGTERM))
    code = child.wait()
    return code if code >= 0 else 128 - code


SCHEDULER = "LADDER_SCHEDULER"
"""Environment variable with the process that runs several stages at a time."""


def die_with_parent() -> None:
    """End this process when DVC or the launcher that started it is killed, so that no orphan trains on (Linux).

    A stage that was started by hand may outlive its shell, as under nohup. The package `stages` calls this function
    before any slow import. If the parent was killed even earlier, this process is already an orphan and exits.
    """
    if {"DVC_STAGE", "RANK"} & set(os.environ):
        _die_with_parent(signal.SIGKILL)
        if "RANK" not in os.environ and _is_orphan():
            sys.exit("the process that started this stage was killed; nothing was done")


def _is_orphan() -> bool:
    """Return whether DVC's shell, or what replaces it, has ended.

    The shell is in the same process group. After its end, the parent is init or another subreaper. Among parallel
    stages (ladder/pipeline/parallel.py), a stage that is the first process of its group is a child of the scheduler.
    """
    if os.getpgrp() == os.getpid() and SCHEDULER in os.environ:
        return str(os.getppid()) != os.environ[SCHEDULER]
    try:
        return os.getpgid(os.getppid()) != os.getpgrp()
    except ProcessLookupError:  # the parent ended just now
        return True


def _die_with_parent(sent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, sent)


def lease(*, every: bool) -> None:
    """Wait for a free GPU of LADDER_GPUS (all of them with `every`) and hide the others until the process ends.

    CUDA reads CUDA_VISIBLE_DEVICES only once, and an import may already have triggered that. The process therefore
    executes itself again under the same PID, which keeps the locks.
    """
    shared = os.environ.get("LADDER_GPUS", "").replace(" ", "")
    if not shared or "RANK" in os.environ or os.environ.get(LEASED) == str(os.getpid()):
        return
    gpus = shared.split(",")
    if every:
        for gpu in gpus:  # the same order in every process, to avoid a deadlock
            fcntl.flock(_lock(gpu), fcntl.LOCK_EX)
    else:
        gpus = [_free(gpus)]
    visible = ",".join(gpus)
    print(f"on GPU {visible} of {shared}", flush=True)
    watcher.end()  # the new program starts a watcher of its own
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": visible, LEASED: str(os.getpid())}
    os.execve(sys.executable, sys.orig_argv, environment)


def _free(gpus: list[str]) -> str:
    printed = False
    while True:
        for gpu in gpus:
            lock = _lock(gpu)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return gpu
            except BlockingIOError:
                os.close(lock)
        if not printed:
            print(f"waiting: all GPUs of {','.join(gpus)} are in use", flush=True)
            printed = True
        time.sleep(0.2)


def _lock(gpu: str) -> int:
    folder = cache() / "gpus"
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / f"{socket.gethostname()}-{gpu}", os.O_RDWR | os.O_CREAT)
    os.set_inheritable(descriptor, True)
    return descriptor
