"""SHA-256 of files with a per-machine cache, so that an unchanged file is hashed only once.

Records are in ${LADDER_WORK}/hashes/<machine>/, one small file per inode. A record is valid only if the file's device,
inode, size, mtime and ctime match it and the record's own checksum is correct. Records are written to a temporary file
and renamed. So an edited, replaced or restored file is hashed again, and a torn record is ignored.

The cache does not detect bit rot: a disk that returns other bytes for an unmodified file changes none of these values.
Bit rot is found when a machine hashes the file for the first time. `ladder doctor` ignores the cache and
always hashes.
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
"""Files that changed less than this long ago are not recorded. File system clocks have coarse ticks, so a second change
within one tick would leave the timestamps equal."""
RECORD = re.compile(r"(?P<facts>\d+ \d+ \d+ -?\d+ -?\d+) (?P<sha256>[0-9a-f]{64}) (?P<check>[0-9a-f]{16})\n")


def sha256(path: Path, *, remember: bool = True) -> str:
    """SHA-256 of a file in hexadecimal. With `remember=False`, the cache is neither read nor written."""
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
    """SHA-256 of each file, hashed in parallel threads: hashlib releases the GIL."""
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
    """Path of a file's record. Machines that share LADDER_WORK have separate records: inodes are per machine."""
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
    # A full or read-only disk is not an error: without a record the file is hashed again next time.
    with contextlib.suppress(OSError), whole(record) as file:
        file.write(f"{facts} {found} {_check(facts, found)}\n".encode())
