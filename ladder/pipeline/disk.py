"""Handling of full or read-only disks.

Stages check the disks before they start. A later disk error becomes a UserError of one sentence.
"""

import errno
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

from ladder.data.atomic_write import target
from ladder.pipeline.errors import UserError
from ladder.pipeline.launch import cache

FAULTS = {
    errno.ENOSPC: ("no space left on the device", "Free some space"),
    errno.EDQUOT: ("disk quota exceeded", "Free some space"),
    errno.EFBIG: ("the file would exceed the limit on file size", "Raise the limit (ulimit -f)"),
    errno.EROFS: ("the file system is read-only", "Make it writable"),
    errno.EACCES: ("permission denied", "Give this user permission"),
    errno.EPERM: ("operation not permitted", "Give this user permission"),
    errno.EIO: ("input/output error of the device", "Check the disk"),
    errno.ESTALE: ("stale handle of a network file system", "Mount it again"),
}
NEEDS_A_PATH = (errno.EACCES, errno.EPERM, errno.EIO)
"""Errnos that processes and sockets raise too. Without a path, the error may not concern a file."""
ERRNO = re.compile(r"(?:os error|\[errno) (\d+)", re.IGNORECASE)
"""How Rust libraries (safetensors, tokenizers) and pyarrow mention an errno in their own error messages."""
TORCH = re.compile(r"PytorchStreamWriter|iostream error|unexpected pos \d+ vs")
"""Error messages of torch.save after a failed write. They do not state the cause."""
SQLITE = {
    "database or disk is full": errno.ENOSPC,
    "attempt to write a readonly database": errno.EROFS,
    "disk i/o error": errno.ENOSPC,
    "unable to open database file": errno.EACCES,
}
PROBE = 4096
"""Bytes written to test whether a folder is writable."""
ROOM = 1 << 20
"""Minimum free bytes for any stage: its metrics, training curve and similar small files."""


class Faults:
    """Context manager that converts an error caused by a disk to UserError, with the path, the cause and a fix."""

    def __init__(self, outputs: Sequence[Path]) -> None:
        self.outputs = outputs

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if (
            isinstance(error, Exception)
            and not isinstance(error, UserError)
            and (said := sentence(error, self.outputs))
        ):
            raise UserError(said) from None


def sentence(error: BaseException, outputs: Sequence[Path] = ()) -> str | None:
    """Describe an error that a disk caused; None for any other error.

    outputs: paths to name if the error names none. The one on the fullest disk is reported.
    """
    if (found := fault(error)) is None:
        return None
    number, path = found
    cause, cure = FAULTS[number]
    where = target(Path(path)) if path else _fullest([*outputs, cache(), Path(tempfile.gettempdir())])
    return f"{where}: {cause}. {cure}, and run again: it resumes from the last saved state."


def fault(error: BaseException) -> tuple[int, str | None] | None:
    """Return (errno in FAULTS, path or None) of the disk error behind an exception; None for any other error."""
    for one in _chain(error):
        number, path = _number(one), None
        if isinstance(one, OSError) and isinstance(one.filename, str | bytes | os.PathLike):
            path = os.fsdecode(one.filename)
        if number in FAULTS and (path or not isinstance(one, OSError) or number not in NEEDS_A_PATH):
            return number, path
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    said = str(error)
    if isinstance(error, sqlite3.OperationalError):
        return SQLITE.get(said.lower())
    if isinstance(error, RuntimeError) and TORCH.search(said):
        return errno.ENOSPC
    return int(found[1]) if (found := ERRNO.search(said)) else None


def _fullest(paths: Sequence[Path]) -> Path:
    """Return the folder whose disk has the least free space."""
    return min((existing(path) for path in paths), key=lambda path: shutil.disk_usage(path).free)


def existing(path: Path) -> Path:
    """Return the path, or its nearest ancestor that exists."""
    return next(above for above in (path, *path.absolute().parents) if above.exists())


def check_writable(outputs: Sequence[Path]) -> None:
    """Check that every output folder and the work folder are writable, by writing and removing a few bytes.

    Errors: UserError for a folder that is not writable, or with less than ROOM bytes free.
    """
    folders = {existing(output.parent): str(output) for output in reversed(outputs)}
    folders.setdefault(existing(cache()), f"{cache()} (the work folder; LADDER_WORK moves it)")
    for folder, named in folders.items():
        if not folder.is_dir():
            raise UserError(f"{named}: {folder} is a file; expected a folder. Remove it or choose another path.")
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(bytes(PROBE))
                file.flush()
                os.fsync(file.fileno())  # a network file system reports an exceeded quota only here
        except OSError as error:
            cause, cure = FAULTS.get(error.errno or 0, (error.strerror, "Make it writable"))
            raise UserError(f"{named}: cannot write in {folder}: {cause}. {cure}; nothing was done.") from None
        check_space(folder, ROOM, f"the stage's output {named}")


def check_space(folder: Path, needed: int, what: str) -> None:
    """Check that a disk has room before work starts. needed: bytes, a lower estimate. Errors: UserError."""
    free = shutil.disk_usage(existing(folder)).free
    if free < needed:
        raise UserError(
            f"{folder}: {what} needs {needed} bytes, got {free} free. Free some space (LADDER_WORK moves it)."
        )


def size(folder: Path) -> int:
    """Return the total bytes of the files in a folder; 0 if it does not exist."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
