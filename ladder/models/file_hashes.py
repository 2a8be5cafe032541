"""SHA-256 of files, remembered per machine, so that a file that does not change is hashed once.

Records lie in ${LADDER_WORK}/hashes/<machine>/, one small file for each inode. A record counts only while the file's
device, inode, size, modification time and change time are those of the record, and only if its own checksum fits; it is
written beside its name and renamed. So an edited, replaced or restored file is hashed again, and a torn record is not
used.

A record cannot show bit rot: a disk that returns other bytes for a file that nobody wrote changes none of these facts.
Reading a rung finds such a flip when the file is hashed for the first time on a machine. `python -m ladder doctor`
ignores the records and always hashes.
"""

import contextlib
import hashlib
import os
import platform
import re
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ladder.data.atomic_write import whole
from ladder.pipeline.launch import cache

SETTLED_SECONDS = 2.0
"""A file that changed less than this long ago is not recorded: clocks of file systems have coarse ticks, so a second
change within one tick would leave the times as they are."""
RECORD = re.compile(r"(?P<facts>\d+ \d+ \d+ -?\d+ -?\d+) (?P<sha256>[0-9a-f]{64}) (?P<check>[0-9a-f]{16})\n")


def sha256(path: Path, *, remember: bool = True) -> str:
    """SHA-256 of a file in hexadecimal digits. Without `remember`, records are neither read nor written."""
    before = _facts(path)
    record = _record(path)
    if remember and (known := _known(record, before)):
        return known
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if remember and _facts(path) == before and _settled(path):
        _write(record, before, found)
    return found


def all_sha256(paths: Iterable[Path], *, remember: bool = True) -> dict[Path, str]:
    """SHA-256 of each file, several at a time: hashlib releases the interpreter's lock."""
    listed = list(paths)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return dict(zip(listed, pool.map(lambda path: sha256(path, remember=remember), listed), strict=True))


def _facts(path: Path) -> str:
    found = path.stat()
    return f"{found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def _settled(path: Path) -> bool:
    found = path.stat()
    return time.time() - max(found.st_mtime, found.st_ctime) > SETTLED_SECONDS


def _record(path: Path) -> Path:
    """Where a file's record lies. Machines that share LADDER_WORK do not share records: inodes are per machine."""
    found = path.stat()
    machine = re.sub(r"[^A-Za-z0-9._-]", "-", platform.node()) or "machine"
    return cache() / "hashes" / machine / f"{found.st_dev}-{found.st_ino}"


def _known(record: Path, facts: str) -> str | None:
    try:
        match = RECORD.fullmatch(record.read_text(encoding="ascii"))
    except (OSError, UnicodeDecodeError):
        return None
    if match and match["facts"] == facts and match["check"] == _check(facts, match["sha256"]):
        return match["sha256"]
    return None


def _check(facts: str, found: str) -> str:
    return hashlib.sha256(f"{facts} {found}".encode()).hexdigest()[:16]


def _write(record: Path, facts: str, found: str) -> None:
    # Without a record the file is hashed again next time, so a full or read-only disk is no error here.
    with contextlib.suppress(OSError), whole(record) as file:
        file.write(f"{facts} {found} {_check(facts, found)}\n".encode())
