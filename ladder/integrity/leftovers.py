"""Leftovers of killed processes: incomplete outputs, queued experiments with stale state, their workspaces."""

import re
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from dvc.repo import Repo

from ladder.integrity.findings import Finding

FOLDERS = ("code", "models", "data", "metrics", "plots", "report")
"""Directories to which stages write."""
HALF_WRITTEN = re.compile(r"\..+\.part|\.base\.\w{8}|\..+\.\d+")
"""Names of outputs that are still being written."""
PID = re.compile(r"\.(\d+)(-\w+\.part)?$")
OLD_SECONDS = 3600.0
"""Age in seconds of the last change after which an incomplete output without a process id is a leftover."""


def part_findings() -> Iterator[Finding]:
    """Findings for incomplete files and directories whose process has ended."""
    for folder in map(Path, FOLDERS):
        for path in sorted(folder.rglob(".*")):
            within = any(HALF_WRITTEN.fullmatch(parent.name) for parent in path.parents)
            if HALF_WRITTEN.fullmatch(path.name) and not within and _is_left(path):
                yield Finding(
                    "leftover",
                    f"{path}: half-written by a process that has ended; expected no such file. "
                    "`--fix` removes it; the stage makes its output from the start.",
                    partial(_remove, path),
                )


def _is_left(path: Path) -> bool:
    process = PID.search(path.name)
    if process:
        return not psutil.pid_exists(int(process[1]))
    files = [path, *path.rglob("*")] if path.is_dir() else [path]
    return time.time() - max(file.lstat().st_mtime for file in files) > OLD_SECONDS


def _remove(path: Path) -> str:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    return f"{path}: removed"


def queue_findings(repo: Repo) -> Iterator[Finding]:
    """Findings for queued experiments in state Running without a worker, and for unused experiment workspaces."""
    folder = Path(str(repo.tmp_dir)) / "exps"
    if not folder.is_dir():
        return
    queue = repo.experiments.celery_queue
    running = [entry for entry in queue.iter_active() if not _runs(queue, entry)] if not _workers(folder) else []
    for entry in running:
        name = entry.name or entry.stash_rev[:7]
        yield Finding(
            "queue",
            f"experiment {name}: marked Running, but its worker has ended; expected a running process. "
            f"`dvc queue kill {name}` marks it Failed, and so does `--fix`. Queue it again to run it.",
            partial(_fail, queue, name),
        )
    used = _working_folders()
    for path in sorted(folder.glob("tmp*")):
        if not any(path.resolve() in (place, *place.parents) for place in used) and not _workers(folder):
            yield Finding(
                "leftover",
                f"{path}: workspace of an experiment without a process; expected none. `--fix` removes it.",
                partial(_remove, path),
            )


def _workers(folder: Path) -> bool:
    """Whether a worker of the queue is alive."""
    alive = [_pid(path) for path in (folder / "celery").glob("dvc-exp-worker-*.pid")]
    return any(process and psutil.pid_exists(process) for process in alive)


def _pid(path: Path) -> int:
    text = path.read_text(encoding="utf-8").strip()
    return int(text) if text.isdecimal() else 0


def _runs(queue: Any, entry: Any) -> bool:
    process = queue.proc.get(entry.stash_rev)
    return process is not None and process.returncode is None and psutil.pid_exists(process.pid)


def _fail(queue: Any, name: str) -> str:
    queue.kill([name])
    return f"experiment {name}: marked Failed"


def _working_folders() -> set[Path]:
    """Working directories of all processes that this user may inspect."""
    found = set()
    for process in psutil.process_iter(["cwd"]):
        if process.info["cwd"]:
            found.add(Path(process.info["cwd"]))
    return found
