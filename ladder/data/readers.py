"""Streaming readers for row files: JSON Lines, JSON, CSV and Parquet, optionally compressed.

The file name gives the format: .jsonl, .json (an array, or JSON Lines), .csv, .parquet. The first three may be
compressed as .gz, .bz2, .xz or .zst. A row that cannot be parsed is yielded as a fault with its line number, and
reading goes on. Memory is bounded by the longest row that is read (MOST_BYTES), not by the file size.
"""

import bz2
import csv
import gzip
import io
import json
import lzma
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import pyarrow

from ladder.data.jsonl import Row
from ladder.data.parquet_rows import parquet_rows
from ladder.data.strict_json import Decoder, elements
from ladder.pipeline.errors import InvalidRow
from ladder.pipeline.stage import UserError

MOST_BYTES = 16 << 20
"""Maximum line length: 16 MiB, about four million tokens. A longer line is an upstream fault, not a row."""
SMALL, RATIO = 64 << 20, 300
"""Decompression limits: a compressed file may expand to the larger of 64 MiB and 300 times its size.

Text compresses 3 to 20 times. Constant bytes compress 1032 times with gzip, and thousands of times with zstandard and
xz.
"""
MOST_QUOTED = 1 << 20
"""Maximum bytes of a CSV record that spans lines. Beyond it, an open quote counts as never closed."""
BATCH = 1024
BOM = b"\xef\xbb\xbf"
KINDS = (".jsonl", ".json", ".csv", ".parquet")


class Record(NamedTuple):
    """One parsed row, or a fault.

    Either `row` is set, or `fault` describes the problem as `what: detail`. `raw` holds the beginning of the line.
    """

    line: int
    """1-based position of the row: its first line; for a .json array the element number, for Parquet the row number."""
    row: Row | None
    fault: str = ""
    raw: bytes = b""


def _zstandard(path: Path) -> BinaryIO:
    return cast(BinaryIO, pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd"))


OPENERS: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": _zstandard}


def kind(name: str) -> str:
    """Return the file format from a name, ignoring the compression suffix. Errors: UserError listing the formats."""
    suffixes = Path(name).suffixes
    if suffixes and suffixes[-1] in OPENERS:
        suffixes.pop()
    packed = len(suffixes) < len(Path(name).suffixes)
    found = suffixes[-1] if suffixes else ""
    if found not in KINDS or (packed and found == ".parquet"):
        raise UserError(f"{name}: expected a file named {', '.join(KINDS)}, or one compressed as {', '.join(OPENERS)}")
    return found


def records(path: Path, name: str) -> Iterator[Record]:
    """Iterate over the rows of a file in order, skipping blank lines.

    `name` gives the format and appears in error messages.

    Errors: UserError when the whole file cannot be read to its end: a damaged or truncated archive or Parquet file, a
    .json array with broken syntax, or UTF-16. The number of lost rows is unknown in that case.
    """
    found = kind(name)
    if not path.is_file():
        raise UserError(f"{name}: no such file")
    line = 0
    try:
        for record in _parquet(path, name) if found == ".parquet" else _text(path, name, found):
            line = record.line
            yield record
    except (EOFError, OSError, zlib.error, lzma.LZMAError, pyarrow.ArrowInvalid) as error:
        cause = " ".join(str(error).split())
        raise UserError(f"{name}: cannot be read past row {line}: {cause}. Check that the file is complete.") from None


class _Unpacked(io.RawIOBase):
    """Decompressed stream limited to `most` bytes. Errors: UserError beyond the limit (decompression bomb)."""

    def __init__(self, packed: Any, name: str, most: int) -> None:
        self.packed, self.name, self.most, self.size = packed, name, most, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = int(self.packed.readinto(buffer))
        self.size += count
        if self.size > self.most:
            raise UserError(
                f"{self.name}: decompresses to more than {self.most} bytes, {RATIO} times its size; expected rows. "
                "Decompress it yourself if it is right."
            )
        return count

    def close(self) -> None:
        self.packed.close()
        super().close()


def _text(path: Path, name: str, found: str) -> Iterator[Record]:
    opener = OPENERS.get(Path(name).suffix)
    most = max(SMALL, RATIO * path.stat().st_size)
    raw: Any = path.open("rb") if opener is None else _Unpacked(opener(path), name, most)
    with raw, io.BufferedReader(raw) as stream:
        start = stream.peek(4)
        if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise UserError(f"{name}: expected UTF-8, got UTF-16. Convert it (iconv -f UTF-16 -t UTF-8).")
        if start.startswith(BOM):
            stream.read(len(BOM))
        if found == ".csv":
            yield from _csv(_lines(stream), name)
        elif found == ".json" and stream.peek(1).lstrip()[:1] == b"[":
            for number, row, fault in elements(stream, name, MOST_BYTES):
                yield Record(number, row, fault)
        else:
            yield from _jsonl(_lines(stream))


class Line(NamedTuple):
    number: int
    content: bytes
    """The line without its line ending; only its beginning if the line is too long."""
    size: int


def _lines(stream: BinaryIO) -> Iterator[Line]:
    number = 0
    while line := stream.readline(MOST_BYTES + 1):
        number += 1
        size = len(line)
        if size > MOST_BYTES and not line.endswith(b"\n"):
            line = line[:BATCH]
            while rest := stream.readline(1 << 20):
                size += len(rest)
                if rest.endswith(b"\n"):
                    break
        yield Line(number, line.rstrip(b"\r\n"), size)


def _fault(line: Line) -> str:
    """Return a format-independent problem in the bytes of a line, or an empty string."""
    if line.size > MOST_BYTES:
        return f"too long: {line.size} bytes, more than {MOST_BYTES}"
    if b"\0" in line.content:
        return f"NUL byte: at byte {line.content.index(0)}"
    return ""


def _jsonl(lines: Iterator[Line]) -> Iterator[Record]:
    decoder = Decoder()
    for line in lines:
        if not line.content.strip():
            continue
        row, fault = None, _fault(line)
        if not fault:
            try:
                row, fault = decoder.row(line.content.decode("utf-8"))
            except UnicodeDecodeError as error:
                fault = f"not UTF-8: at byte {error.start}"
        yield Record(line.number, row, fault, line.content)


def _csv(lines: Iterator[Line], name: str) -> Iterator[Record]:
    """Parse CSV records.

    A record with an unclosed quote is a fault of its first line only. The lines below it are parsed again, starting
    with the next line.
    """
    csv.field_size_limit(MOST_BYTES)
    ahead: deque[Line] = deque()
    header: list[str] = []
    while (first := ahead.popleft() if ahead else next(lines, None)) is not None:
        if not first.content.strip():
            continue
        taken: list[Line] = []
        values, fault = _values(_quoted(first, ahead, lines, taken))
        if header and not fault and len(values) != len(header):
            fault = f"wrong number of values: expected {len(header)}, got {len(values)}"
        if fault:
            ahead.extendleft(reversed(taken[1:]))
        if not header:
            header = _header(values, fault, f"{name}:{first.number}")
        elif fault:
            yield Record(first.number, None, fault, first.content)
        else:
            yield Record(first.number, dict(zip(header, values, strict=True)))


def _header(values: list[str], fault: str, where: str) -> list[str]:
    if fault or len(set(values)) < len(values) or not all(value.strip() for value in values):
        raise UserError(f"{where}: expected a line of distinct column names, got {fault or values}")
    return values


def _quoted(first: Line, ahead: deque[Line], lines: Iterator[Line], taken: list[Line]) -> Iterator[str]:
    """Yield the first line of a record, then the lines that a quoted field may span.

    Consumed lines are appended to `taken`.
    """
    size, line = 0, first
    while True:
        taken.append(line)
        if fault := _fault(line):
            raise InvalidRow(fault)
        yield line.content.decode("utf-8") + "\n"
        size += line.size
        following = (ahead.popleft() if ahead else next(lines, None)) if size < MOST_QUOTED else None
        if following is None:
            return
        line = following


def _values(source: Iterator[str]) -> tuple[list[str], str]:
    """Return (values of one record, fault); one of them is empty.

    The CSV reader consumes as many lines as open quotes require.
    """
    try:
        return next(csv.reader(source, strict=True)), ""
    except InvalidRow as misfit:
        return [], str(misfit)
    except UnicodeDecodeError as error:
        return [], f"not UTF-8: at byte {error.start}"
    except csv.Error as error:
        return [], f"broken quote: {error}"


def _parquet(path: Path, name: str) -> Iterator[Record]:
    for number, row in enumerate(parquet_rows(path, name), start=1):
        yield Record(number, row, "" if row is not None else "not UTF-8: a text of this row")


def beginning(record: Record, most: int = 200) -> str:
    r"""Return the first `most` characters of a record, for display in quarantine.

    Invalid UTF-8 bytes appear as \xNN.
    """
    if record.raw or record.row is None:
        return record.raw[: 4 * most].decode("utf-8", "backslashreplace")[:most]
    return json.dumps(record.row, default=str)[:most]
