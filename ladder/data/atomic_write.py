"""Atomic writes: a file or a folder appears under its name whole and on disk, or not at all.

What is written lies beside its target as `.NAME.PID-RANDOM.part`, which git and DVC ignore, until it is synchronized
and renamed. A killed process leaves this file behind; `clean` removes it, for a caller that is the only writer of
the target (ladder/pipeline/output_locks.py).
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
"""Bytes of the target's name in a temporary name; file systems allow 255 in all."""
NAME = re.compile(r"\.(?P<target>.+)\.\d+-\w+\.part")
"""A temporary name."""


def beside(path: Path) -> Path:
    """A unique temporary name in the folder of `path`."""
    return path.with_name(f"{_begins(path)}{os.getpid()}-{secrets.token_hex(4)}{PART}")


def _begins(path: Path) -> str:
    return f".{os.fsdecode(os.fsencode(path.name)[:LONGEST])}."


def target(path: Path) -> Path:
    """The path that a temporary name will become; any other path unchanged."""
    for part in (path, *path.parents):
        if found := NAME.fullmatch(part.name):
            return part.with_name(found["target"]) / path.relative_to(part)
    return path


def clean(path: Path) -> None:
    """Remove what killed writers of `path` left beside it and in it. For a caller that holds the lock of `path`."""
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
    """A temporary path for code that writes a file by its name; it becomes `path` when the block succeeds.

    durable: synchronize with the disk first. Without it a crash of the machine may leave an empty file.
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
        if error.errno is not None and error.filename in (None, str(temporary)):  # a failed write names no file
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """A file to write bytes to, row by row; it becomes `path` when the block succeeds and is deleted when it fails."""
    with replacing(path, durable=durable) as temporary, temporary.open("wb") as file:
        yield file


@contextmanager
def published(directory: Path) -> Iterator[Path]:
    """A path for a scratch folder; it becomes `directory` when the block succeeds and is deleted when it fails.

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
    """A folder beside an output for what is needed while it is made; `clean` removes what a killed process left."""
    output.parent.mkdir(parents=True, exist_ok=True)
    prefix = f"{_begins(output)}{os.getpid()}-"
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=prefix, suffix=PART) as folder:
        yield Path(folder)


def sync_folder(folder: Path) -> None:
    """Synchronize a folder with the disk, and all that is in it."""
    for path in folder.rglob("*"):
        if not path.is_symlink():
            sync(path)
    sync(folder)


def sync(path: Path) -> None:
    """Wait until the bytes of a file, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that cannot synchronize folders
            raise
    finally:
        os.close(descriptor)
