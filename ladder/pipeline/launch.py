"""Where a stage runs: in this process or under a launcher, on which GPUs, and that it dies with what started it.

None of it stands in dvc.yaml or params.yaml, so that moving to another machine reruns nothing:

LADDER_LAUNCH  what starts a training stage on several GPUs: `torchrun --nproc-per-node 8`, `accelerate launch
               --config_file launch/fsdp2.yaml`. Unset: the one line of the file .launch; without it, this process.
LADDER_GPUS    the GPUs of this machine that stages share: `0,1,2,3`. A stage waits for a free one; a launched stage
               waits for all of them.
LADDER_WORK    where checkpoints of unfinished trainings lie, answers, replies and verdicts that were had once, and the
               locks of the GPUs; the user's cache if unset.
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
"""The process that holds the lease: it starts itself again, with the same PID, to see its GPU alone."""


def rank() -> int:
    """This process's place among those that train one rung; 0 without a launcher."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes train one rung; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def stage_name() -> str:
    """The stage that `python -m stages.NAME` is about to run, as DVC calls it (`sft@chat`); else empty.

    While Python looks for the module that it runs, and imports its package for that, sys.argv begins with -m.
    """
    if sys.argv[:1] != ["-m"]:
        return ""
    module = sys.orig_argv[sys.orig_argv.index("-m") + 1]
    if not module.startswith("stages."):
        return ""
    name = os.environ.get("DVC_STAGE") or module.removeprefix("stages.")
    return f"{name} (rank {rank()})" if rank() else name


def cache() -> Path:
    """Where what outlives a run and is no output lies: outside the repository, so that DVC deletes none of it."""
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(os.environ.get("LADDER_WORK") or home / "ladder")


def launcher() -> list[str]:
    """The words of LADDER_LAUNCH, or of the file .launch; none when the stage runs in this process."""
    if "RANK" in os.environ:  # launched already
        return []
    local = Path(".launch")
    line = os.environ.get("LADDER_LAUNCH", local.read_text(encoding="utf-8") if local.is_file() else "")
    return shlex.split(line)


def launched(command: list[str], stage: str, arguments: list[str]) -> int:
    """Run the stage under the launcher and return its exit code."""
    words = [*command, "-m", f"stages.{stage}", *arguments]
    print(f"{stage}: launched by {shlex.join(command)}", flush=True)
    # SIGTERM, not SIGKILL: a launcher that is asked to end takes its workers along, on other machines too.
    child = subprocess.Popen(words, preexec_fn=lambda: _die_with_parent(signal.SIGTERM))
    code = child.wait()
    return code if code >= 0 else 128 - code


def die_with_parent() -> None:
    """End this process when DVC or the launcher that started it is killed, so that no orphan trains on (Linux).

    Started by hand it may outlive its shell, as under nohup. The package `stages` calls this before anything heavy is
    imported; a parent that was killed even earlier has left this process to init.
    """
    if {"DVC_STAGE", "RANK"} & set(os.environ):
        _die_with_parent(signal.SIGKILL)
        if "RANK" not in os.environ and _is_orphan():
            sys.exit("the process that started this stage was killed; nothing was done")


def _is_orphan() -> bool:
    """Whether DVC's shell, which is in our process group, has ended: then the parent is init or what stands for it."""
    try:
        return os.getpgid(os.getppid()) != os.getpgrp()
    except ProcessLookupError:  # it ended this moment
        return True


def _die_with_parent(sent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, sent)


def lease(*, every: bool) -> None:
    """Wait for a free GPU of LADDER_GPUS, or with `every` for all, and see nothing else; held until the process ends.

    CUDA reads CUDA_VISIBLE_DEVICES once, and what a stage imports may have made it read already: so the process
    starts itself again, under the same PID, which keeps the locks.
    """
    shared = os.environ.get("LADDER_GPUS", "").replace(" ", "")
    if not shared or "RANK" in os.environ or os.environ.get(LEASED) == str(os.getpid()):
        return
    gpus = shared.split(",")
    if every:
        for gpu in gpus:  # in one order for all, so that no two wait for each other
            fcntl.flock(_lock(gpu), fcntl.LOCK_EX)
    else:
        gpus = [_free(gpus)]
    visible = ",".join(gpus)
    print(f"on GPU {visible} of {shared}", flush=True)
    watcher.end()  # the new program starts a watcher of its own
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": visible, LEASED: str(os.getpid())}
    os.execve(sys.executable, sys.orig_argv, environment)


def _free(gpus: list[str]) -> str:
    told = False
    while True:
        for gpu in gpus:
            lock = _lock(gpu)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return gpu
            except BlockingIOError:
                os.close(lock)
        if not told:
            print(f"all of GPU {','.join(gpus)} are taken: waiting", flush=True)
            told = True
        time.sleep(0.2)


def _lock(gpu: str) -> int:
    folder = cache() / "gpus"
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / f"{socket.gethostname()}-{gpu}", os.O_RDWR | os.O_CREAT)
    os.set_inheritable(descriptor, True)
    return descriptor
