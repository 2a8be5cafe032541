"""Disks that are full or read-only: seen before the work where possible, else one sentence with all work kept."""

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
    errno.EDQUOT: ("the disk quota is used up", "Free some space"),
    errno.EFBIG: ("the file would be larger than the limit on files", "Raise the limit (ulimit -f)"),
    errno.EROFS: ("the file system is read-only", "Make it writable"),
    errno.EACCES: ("permission denied", "Give this user the right to it"),
    errno.EPERM: ("the operation is not permitted", "Give this user the right to it"),
    errno.EIO: ("input/output error of the device", "Check the disk"),
    errno.ESTALE: ("stale handle of a network file system", "Mount it again"),
}
NEEDS_A_PATH = (errno.EACCES, errno.EPERM, errno.EIO)
"""Faults of processes and sockets too: without a path they may have nothing to do with a file."""
ERRNO = re.compile(r"(?:os error|\[errno) (\d+)", re.IGNORECASE)
"""How libraries in Rust (safetensors, tokenizers) and pyarrow name an errno in an error of their own."""
TORCH = re.compile(r"PytorchStreamWriter|iostream error|unexpected pos \d+ vs")
"""Errors of torch.save where a write failed; they do not say why."""
SQLITE = {
    "database or disk is full": errno.ENOSPC,
    "attempt to write a readonly database": errno.EROFS,
    "disk i/o error": errno.ENOSPC,
    "unable to open database file": errno.EACCES,
}
PROBE = 4096
"""Bytes that are written to see whether a folder takes them."""
ROOM = 1 << 20
"""Bytes that a stage needs whatever it makes: its metrics, its curve and the like."""


class Faults:
    """Within `with`, an error that a disk caused becomes UserError: its path, the cause, and that work is kept."""

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
    """What to say of an error that a disk caused; None for another. outputs: named where the error names no path."""
    if (found := fault(error)) is None:
        return None
    number, path = found
    cause, cure = FAULTS[number]
    where = target(Path(path)) if path else _fullest([*outputs, cache(), Path(tempfile.gettempdir())])
    return f"{where}: {cause}. {cure}, and run again: it resumes from the last saved state"


def fault(error: BaseException) -> tuple[int, str | None] | None:
    """The errno of FAULTS that caused an error, and the path if one is known; None for an error of another kind."""
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
    """Of the folders that are written to, the one with the least room."""
    return min((existing(path) for path in paths), key=lambda path: shutil.disk_usage(path).free)


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(above for above in (path, *path.absolute().parents) if above.exists())


def check_writable(outputs: Sequence[Path]) -> None:
    """Write a few bytes beside every output and in the work folder, and remove them.

    Errors: UserError for a folder that does not take them, or one with less room than ROOM.
    """
    folders = {existing(output.parent): str(output) for output in reversed(outputs)}
    folders.setdefault(existing(cache()), f"{cache()} (the work folder; LADDER_WORK moves it)")
    for folder, named in folders.items():
        if not folder.is_dir():
            raise UserError(f"{named}: {folder} is a file; expected a folder. Remove it or choose another path")
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(bytes(PROBE))
                file.flush()
                os.fsync(file.fileno())  # a network file system says only now that a quota is used up
        except OSError as error:
            cause, cure = FAULTS.get(error.errno or 0, (error.strerror, "Make it writable"))
            raise UserError(f"{named}: cannot write in {folder}: {cause}. {cure}; nothing was done") from None
        check_space(folder, ROOM, f"the stage's output {named}")


def check_space(folder: Path, needed: int, what: str) -> None:
    """Refuse to start what the disk cannot hold. needed: bytes, an estimate from below."""
    free = shutil.disk_usage(existing(folder)).free
    if free < needed:
        raise UserError(
            f"{folder}: {what} needs {needed} bytes, {free} are free; free some space (LADDER_WORK moves it)"
        )


def size(folder: Path) -> int:
    """Bytes of the files in a folder; 0 for one that is not there."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
