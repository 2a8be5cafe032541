"""File locks: one writer per output, and one process per folder of unfinished work.

The lock of an output is a file in `.dvc/tmp/writers` of the repository that contains the output. Its name is a hash
of the output's real path, so a symbolic link shares the lock of its target. Two clones with separate outputs do not
block each other. Outside a DVC repository, the lock is in `writers` of LADDER_WORK.

The kernel releases a lock when its process ends, for any reason. On NFS a lock holds across machines, unless the file
system is mounted with `nolock` or `local_lock`: then it holds only among the processes of one machine.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ladder.data.strict_json import parse_json
from ladder.pipeline.errors import UserError
from ladder.pipeline.launch import cache

NONE = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""Errnos that flock returns on a file system without locks."""


@contextlib.contextmanager
def written(outputs: Sequence[Path]) -> Iterator[None]:
    """Context manager that makes this process the only writer of the outputs.

    Errors: UserError naming another writer.
    """
    with contextlib.ExitStack() as held:
        for output in sorted(outputs, key=os.path.realpath):  # the same order everywhere, to avoid a deadlock
            place = _place(output)
            held.callback(_remove, place.parent)
            held.enter_context(alone(place, f"{output}", "is writing this output; expected one writer"))
        yield


def _remove(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not empty: other locks are held
        folder.rmdir()


def _place(output: Path) -> Path:
    real = Path(os.path.realpath(output))
    root = next((folder for folder in real.parents if (folder / ".dvc").is_dir()), None)
    name = os.fsencode(real.relative_to(root) if root else real)
    folder = root / ".dvc" / "tmp" if root else cache()
    return folder / "writers" / hashlib.sha256(name).hexdigest()[:16]


@contextlib.contextmanager
def alone(path: Path, where: str, doing: str) -> Iterator[None]:
    """Context manager that holds the lock file `path`, which records the PID, the host and `where`.

    Another process may delete the file while the lock is held.

    Errors: UserError `WHERE: process PID DOING. ...` when another process holds the lock.
    """
    file = _locked(path, where, doing)
    try:
        file.seek(0)
        file.truncate()
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "path": where}))
        file.flush()
        yield
    finally:
        if _is(file, path):  # unlink before release, so that a process that already opened the file notices
            path.unlink()
        file.close()


def _locked(path: Path, where: str, doing: str) -> Any:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("a+", encoding="utf-8")
        except FileNotFoundError:  # another process has just removed the empty folder
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            said = file.read()
            file.close()
            raise UserError(f"{where}: {_holder(said)} {doing}. {_advice(said)}") from None
        except OSError as error:
            if error.errno not in NONE:
                file.close()
                raise
            warning = f"{path}: this file system has no locks ({error.strerror}); a second process could write here too"
            print(warning, file=sys.stderr, flush=True)
            return file
        if _is(file, path):
            return file
        file.close()  # the previous holder removed this file; retry with a new one


def _is(file: Any, path: Path) -> bool:
    """Return whether the open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _facts(said: str) -> dict[str, Any]:
    try:
        facts = parse_json(said)
    except ValueError:  # the holder is writing it just now
        return {}
    return facts if isinstance(facts, dict) else {}


def _holder(said: str) -> str:
    facts = _facts(said)
    if "pid" not in facts:
        return "another process"
    host = "" if facts["host"] == socket.gethostname() else f" on {facts['host']}"
    return f"process {facts['pid']}{host}"


def _advice(said: str) -> str:
    facts = _facts(said)
    if "pid" not in facts:
        return "Wait for it, and run again."
    if facts["host"] != socket.gethostname():
        return f"Wait for it, or end it on {facts['host']} (kill {facts['pid']}), and run again."
    if not _runs(facts["pid"]):
        return "That process has ended, but one that it started has not: end that one, and run again."
    return f"Wait for it, or end it (kill {facts['pid']}), and run again."


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
