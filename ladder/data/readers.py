"""Rows of a file of any kind and packing, one at a time; what cannot be read is told with its line, and skipped.

The kind is the name's: .jsonl, .json (an array, or JSON Lines), .csv, .parquet, the first three also packed as .gz,
.bz2, .xz or .zst. Memory is bounded by the longest row that is read (MOST_BYTES), not by the file.
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
from pyarrow import parquet

from ladder.data.invalid_rows import InvalidRow
from ladder.data.jsonl import Row
from ladder.data.strict_json import Decoder, elements
from ladder.pipeline.stage import UserError

MOST_BYTES = 16 << 20
"""The longest line that is read: 16 MiB, some four million tokens, is no row but a fault upstream."""
SMALL, RATIO = 64 << 20, 300
"""A packed file may unpack to 64 MiB, and to 300 times its size. Text is 3 to 20 times as large; gzip makes 1032 times
of equal bytes, zstandard and xz thousands."""
MOST_QUOTED = 1 << 20
"""How far a quoted field of a csv may run over lines before its quote counts as never closed."""
BATCH = 1024
PARQUET_BATCH = 64
"""Rows of a .parquet in memory at once: each may have the size of a dictionary's longest text."""
BOM = b"\xef\xbb\xbf"
KINDS = (".jsonl", ".json", ".csv", ".parquet")


class Record(NamedTuple):
    """One row as read: either `row`, or a `fault`, told as `what: detail`, with the `raw` beginning of the line."""

    line: int
    """From 1: the line it begins at; of a .json array the element, of a .parquet the row."""
    row: Row | None
    fault: str = ""
    raw: bytes = b""


def _zstandard(path: Path) -> BinaryIO:
    return cast(BinaryIO, pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd"))


OPENERS: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": _zstandard}


def kind(name: str) -> str:
    """The kind of file that a name tells, its packing aside. Errors: UserError naming the kinds."""
    suffixes = Path(name).suffixes
    if suffixes and suffixes[-1] in OPENERS:
        suffixes.pop()
    packed = len(suffixes) < len(Path(name).suffixes)
    found = suffixes[-1] if suffixes else ""
    if found not in KINDS or (packed and found == ".parquet"):
        raise UserError(f"{name}: expected a file named {', '.join(KINDS)}, or one packed as {', '.join(OPENERS)}")
    return found


def records(path: Path, name: str) -> Iterator[Record]:
    """Every row of a file in order, blank lines aside; `name` tells its kind and stands in what is refused.

    Errors: UserError when the file as a whole cannot be read to its end: a packing or a parquet that is damaged or cut
    off, a .json array with broken syntax, UTF-16. How many rows such a file has lost cannot be told.
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
        told = " ".join(str(error).split())
        raise UserError(f"{name}: cannot be read past row {line}: {told}; is the file whole?") from None


class _Unpacked(io.RawIOBase):
    """What is unpacked of a file, up to `most` bytes. Errors: UserError for more, since a small file may be a bomb."""

    def __init__(self, packed: Any, name: str, most: int) -> None:
        self.packed, self.name, self.most, self.size = packed, name, most, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = int(self.packed.readinto(buffer))
        self.size += count
        if self.size > self.most:
            raise UserError(
                f"{self.name}: unpacks to more than {self.most} bytes, {RATIO} times its size; expected rows. "
                "Unpack it yourself if it is right"
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
            raise UserError(f"{name}: UTF-16; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)")
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
    """Without its end; the beginning alone where it is too long."""
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
    """What is wrong with the bytes of a line, whatever they are to mean."""
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
    """A line whose quote is never closed is told alone: what stands below it is read again from the next line."""
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
    """The first line of a record, then those that a quoted field of it may run over; `taken` tells which were read."""
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
    """(values of one record, or none and the fault): the reader takes as many lines as the quotes ask for."""
    try:
        return next(csv.reader(source, strict=True)), ""
    except InvalidRow as misfit:
        return [], str(misfit)
    except UnicodeDecodeError as error:
        return [], f"not UTF-8: at byte {error.start}"
    except csv.Error as error:
        return [], f"broken quote: {error}"


class Unreadable:
    """What stands for a value that Python has no type for, such as a time after the year 9999 or in an unknown zone:
    its row is read, and no JSON is written of it."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __str__(self) -> str:
        return f"unreadable: {self.error}"


def _parquet(path: Path, name: str) -> Iterator[Record]:
    number = 0
    with parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
        names = file.schema_arrow.names
        if twice := next((one for one in names if names.count(one) > 1), None):
            raise UserError(f"{name}: expected distinct column names, got two of {twice!r}")
        for batch in file.iter_batches(batch_size=PARQUET_BATCH):
            for row in _python(batch):
                number += 1
                yield Record(number, row, "" if row is not None else "not UTF-8: a text of this row")


def _python(batch: pyarrow.RecordBatch) -> list[Row | None]:
    """The rows of a batch; None for one with a text that is not UTF-8, which Arrow does not check."""
    try:
        return list(_rows(batch))
    except UnicodeDecodeError:
        if len(batch) == 1:
            return [None]
        half = len(batch) // 2
        return _python(batch.slice(0, half)) + _python(batch.slice(half))


def _rows(batch: pyarrow.RecordBatch) -> list[Row]:
    try:
        return list(batch.to_pylist())
    except UnicodeDecodeError:
        raise
    except (KeyError, OverflowError, ValueError):
        columns = [_values_of(column) for column in batch.columns]
        return [dict(zip(batch.schema.names, values, strict=True)) for values in zip(*columns, strict=True)]


def _values_of(column: pyarrow.Array) -> list[Any]:
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        raise
    except (KeyError, OverflowError, ValueError) as error:
        if len(column) == 1:
            return [Unreadable(error)]
        half = len(column) // 2
        return _values_of(column.slice(0, half)) + _values_of(column.slice(half))


def beginning(record: Record, most: int = 200) -> str:
    """The first characters of a record, to be read in a quarantine; bytes that are no UTF-8 stand as \\xNN."""
    if record.raw or record.row is None:
        return record.raw[: 4 * most].decode("utf-8", "backslashreplace")[:most]
    return json.dumps(record.row, default=str)[:most]
