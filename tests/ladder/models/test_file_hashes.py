import hashlib
import os
import shutil
import stat
from pathlib import Path

from ladder.models.file_hashes import sha256

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
"""SHA-256 of b"abc", FIPS 180-2, appendix B.1."""


def settled(path, content=b"abc"):
    """A file that changed long enough ago to be recorded. Only waiting makes a change time older, so an old file of
    this machine is read instead where `content` does not matter."""
    path.write_bytes(content)
    return path


def old_file():
    """A file of the standard library, installed long ago."""
    return Path(hashlib.__file__)


def records(work):
    return [path for path in work.rglob("*") if path.is_file()]


def test_the_hash_is_the_published_one(tmp_path, work):
    assert sha256(settled(tmp_path / "file")) == ABC


def test_a_file_that_changed_a_moment_ago_is_not_recorded(tmp_path, work):
    sha256(settled(tmp_path / "file"))
    assert records(work) == []


def test_a_record_is_used_until_the_file_differs_in_any_of_its_facts(work, monkeypatch):
    path = old_file()
    real = hashlib.sha256(path.read_bytes()).hexdigest()
    assert sha256(path) == real
    (record,) = records(work)
    known = record.read_text()
    facts, _, _ = known.rsplit(" ", 2)
    other = hashlib.sha256(f"{facts} {ABC}".encode()).hexdigest()[:16]
    record.write_text(f"{facts} {ABC} {other}\n")  # a valid record of another hash shows that the file is not read
    assert sha256(path) == ABC
    assert sha256(path, remember=False) == real
    for place in range(5):  # device, inode, size, mtime, ctime
        changed = facts.split()
        changed[place] = str(int(changed[place]) + 1)
        text = " ".join(changed)
        record.write_text(f"{text} {ABC} {hashlib.sha256(f'{text} {ABC}'.encode()).hexdigest()[:16]}\n")
        assert sha256(path) == real


def test_no_torn_or_altered_record_is_trusted(work):
    """Every prefix of a record, and the record with each of its bits flipped."""
    path = old_file()
    real = sha256(path)
    (record,) = records(work)
    whole = record.read_bytes()
    facts = whole.decode().rsplit(" ", 2)[0]
    other = f"{facts} {ABC} ".encode()
    forged = other + hashlib.sha256(other.strip()).hexdigest()[:16].encode() + b"\n"
    for length in range(len(forged)):
        record.write_bytes(forged[:length])
        assert sha256(path) == real
    for bit in range(8 * len(forged)):
        altered = bytearray(forged)
        altered[bit // 8] ^= 1 << bit % 8
        record.write_bytes(altered)
        assert sha256(path) == real


def test_a_folder_that_cannot_be_written_only_costs_time(tmp_path, work):
    work.write_text("a file where the folder belongs")
    assert sha256(old_file()) == hashlib.sha256(old_file().read_bytes()).hexdigest()


def test_a_change_that_keeps_size_and_mtime_is_seen(tmp_path, work):
    """os.utime restores the modification time but not the change time."""
    path = settled(tmp_path / "file")
    before = path.stat()
    assert sha256(path) == ABC
    path.write_bytes(b"abd")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert sha256(path) == hashlib.sha256(b"abd").hexdigest()
    shutil.copystat(old_file(), path)
    assert stat.S_ISREG(path.stat().st_mode)
    assert sha256(path) == hashlib.sha256(b"abd").hexdigest()
