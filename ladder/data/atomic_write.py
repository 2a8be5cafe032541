"""Atomic writes: a file or folder appears under its name complete and synchronized to disk, or not at all.

Data is written beside the target as `.NAME.PID-RANDOM.part`, which git and DVC ignore, then synchronized and renamed.
A killed process leaves this file behind. `clean` removes it; its caller must be the only writer of the target
(ladder/pipeline/output_locks.py).
"""

import errno
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PART = ".part"
LONGEST = 150
"""Maximum bytes of the target's name in a temporary name. File systems allow 255 bytes in total."""
NAME = re.compile(r"\.(?P<target>.+)\.\d+-\w+\.part")
"""Pattern of a temporary name."""


def beside(path: Path) -> Path:
    """Return a unique temporary name in the folder of `path`."""
    return path.with_name(f"{_begins(path)}{os.getpid()}-{secrets.token_hex(4)}{PART}")


def _begins(path: Path) -> str:
    return f".{os.fsdecode(os.fsencode(path.name)[:LONGEST])}."


def target(path: Path) -> Path:
    """Return the final path of a temporary path; any other path is returned unchanged."""
    for part in (path, *path.parents):
        if found := NAME.fullmatch(part.name):
            return part.with_name(found["target"]) / path.relative_to(part)
    return path


def clean(path: Path) -> None:
    """Remove temporary files that killed writers of `path` left beside it and inside it.

    The caller must hold the lock of `path`.
    """
    begins = _begins(path)
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    inside = path.rglob(f".*{PART}") if path.is_dir() else ()
    for left in [*(found for found in beside if found.name.startswith(begins)), *inside]:
        if NAME.fullmatch(left.name) is None:
            continue
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Context manager that yields a temporary path for code that writes a file by name.

    On success the temporary file replaces `path`; on failure it is deleted.

    durable: synchronize with the disk first. Without it, a machine crash may leave an empty file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(path)
    try:
        yield temporary
        if durable:
            sync(temporary)
        os.replace(temporary, path)
        if durable:
            sync(path.parent)
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(temporary)):  # a failed write has no file name
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Context manager that yields a binary file. On success it replaces `path`; on failure it is deleted."""
    with replacing(path, durable=durable) as temporary, temporary.open("wb") as file:
        yield file


@contextmanager
def published(directory: Path) -> Iterator[Path]:
    """Context manager that yields a path for a scratch folder.

    On success it replaces `directory`; on failure it is deleted.

    A reader sees the old folder or the new one, never a mix of both.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary, before = beside(directory), beside(directory)
    try:
        yield temporary
        sync_folder(temporary)
        if directory.is_symlink() or directory.exists():
            directory.rename(before)
        temporary.rename(directory)
        sync(directory.parent)
    finally:
        for folder in (temporary, before):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def scratch(output: Path) -> Iterator[Path]:
    """Context manager that yields a temporary folder beside an output. `clean` removes what a killed process left."""
    output.parent.mkdir(parents=True, exist_ok=True)
    prefix = f"{_begins(output)}{os.getpid()}-"
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=prefix, suffix=PART) as folder:
        yield Path(folder)


def sync_folder(folder: Path) -> None:
    """Synchronize a folder and everything in it with the disk."""
    for path in folder.rglob("*"):
        if not path.is_symlink():
            sync(path)
    sync(folder)


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's entries, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems cannot synchronize folders
            raise
    finally:
        os.close(descriptor)
