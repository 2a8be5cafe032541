"""Locks: every output has one writer, and every folder of unfinished work one process.

The lock of an output is a file in `.dvc/tmp/writers` of the repository that the output lies in, named by a hash of
the output's real path: two clones with outputs of their own do not block each other, and a link to an output has the
output's own lock. Outside a DVC repository it is in `writers` of LADDER_WORK. The kernel drops a lock when the process
that holds it ends, however it ends. On NFS a lock holds among machines, unless the file system is mounted with
`nolock` or `local_lock`: then it holds among the processes of one machine.
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

from ladder.pipeline.errors import UserError
from ladder.pipeline.launch import cache

NONE = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""What flock says on a file system without locks."""


@contextlib.contextmanager
def written(outputs: Sequence[Path]) -> Iterator[None]:
    """Be the only writer of these outputs. Errors: UserError naming the process that writes one of them."""
    with contextlib.ExitStack() as held:
        for output in sorted(outputs, key=os.path.realpath):  # in one order for all
            place = _place(output)
            held.callback(_remove, place.parent)
            held.enter_context(alone(place, f"{output}", "is writing this output; expected one writer"))
        yield


def _remove(folder: Path) -> None:
    with contextlib.suppress(OSError):  # it is not empty
        folder.rmdir()


def _place(output: Path) -> Path:
    real = Path(os.path.realpath(output))
    root = next((folder for folder in real.parents if (folder / ".dvc").is_dir()), None)
    name = os.fsencode(real.relative_to(root) if root else real)
    folder = root / ".dvc" / "tmp" if root else cache()
    return folder / "writers" / hashlib.sha256(name).hexdigest()[:16]


@contextlib.contextmanager
def alone(path: Path, where: str, doing: str) -> Iterator[None]:
    """Hold the lock file `path`; in it stand the process, its machine and `where`. It may be removed while it is held.

    Errors: UserError, `WHERE: process PID DOING. ...`, when another process holds it.
    """
    file = _locked(path, where, doing)
    try:
        file.seek(0)
        file.truncate()
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "path": where}))
        file.flush()
        yield
    finally:
        if _is(file, path):  # before it is released: who opened it meanwhile sees that it is gone
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
            warning = f"{path}: this file system has no locks ({error.strerror}); nothing keeps a second process away"
            print(warning, file=sys.stderr, flush=True)
            return file
        if _is(file, path):
            return file
        file.close()  # who held it removed the file: take the new one


def _is(file: Any, path: Path) -> bool:
    """Whether the open file still has this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _facts(said: str) -> dict[str, Any]:
    try:
        facts = json.loads(said)
    except ValueError:  # it is being written this moment
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
