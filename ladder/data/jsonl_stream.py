"""Byte ranges of a JSON Lines file, streamed line by line, so that workers can share one file."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import orjson
from numpy.typing import NDArray

from ladder.data.jsonl import Row, parse_row
from ladder.pipeline.errors import UserError

CHUNK = 1 << 20


@dataclass(frozen=True)
class Shard:
    """Lines of a file from byte `start` up to byte `stop`. The first of them is line number `first` of the file."""

    path: Path
    start: int
    stop: int
    first: int = 1

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Iterate over (line number in the file, line) of the non-blank lines. Each line ends with a newline."""
        with self.path.open("rb", buffering=CHUNK) as file:
            file.seek(self.start)
            place, number = self.start, self.first
            while place < self.stop and (line := file.readline()):
                if not line.isspace():
                    yield number, line if line.endswith(b"\n") else line + b"\n"
                place, number = place + len(line), number + 1


def whole(path: Path) -> Shard:
    """Return a file as one shard."""
    return Shard(path, 0, path.stat().st_size)


def split(path: Path, count: int) -> list[Shard]:
    """Split a file into `count` contiguous shards of similar size, cut between lines.

    Some shards of a short file are empty.
    """
    size, shards = path.stat().st_size, []
    start, first = 0, 1
    with path.open("rb") as file:
        for number in range(1, count + 1):
            stop = size
            if number < count and (aim := size * number // count) > start:
                file.seek(aim - 1)
                file.readline()
                stop = file.tell()
            elif number < count:
                stop = start
            shards.append(Shard(path, start, stop, first))
            if number < count:
                first += _newlines(file, start, stop)
            start = stop
    return shards


class Rows(Iterable[Row]):
    """Iterable over the rows of shards, parsed from disk at each iteration.

    `sketches` are precomputed filter features: one array of shape [rows, numbers] per shard.
    """

    def __init__(self, shards: Sequence[Shard], sketches: list[NDArray[np.uint64]] | None = None) -> None:
        self.shards, self.sketches = shards, sketches

    def __iter__(self) -> Iterator[Row]:
        return (orjson.loads(line) for shard in self.shards for _, line in shard.lines())


class RowFile(Iterable[Row]):
    """Iterable over the rows of a JSON Lines file, each passed through `check(row, where)`.

    Errors: UserError naming the file if it is missing or empty, and the line if it is not a JSON object.
    """

    def __init__(self, path: Path, check: Callable[[Row, str], Row]) -> None:
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        self.path, self.check = path, check

    def __iter__(self) -> Iterator[Row]:
        empty = True
        for number, line in whole(self.path).lines():
            empty = False
            where = f"{self.path}:{number}"
            yield self.check(parse_row(line, where), where)
        if empty:
            raise UserError(f"{self.path}: no rows")


def picked(rows: Iterable[Row], wanted: Iterable[bool]) -> Iterator[Row | None]:
    """Iterate over the rows, with None for unwanted ones. Unwanted rows of a file are not parsed."""
    if not isinstance(rows, Rows):
        return (row if want else None for row, want in zip(rows, wanted, strict=True))
    lines = (line for shard in rows.shards for _, line in shard.lines())
    return (orjson.loads(line) if want else None for line, want in zip(lines, wanted, strict=True))


def _newlines(file: IO[bytes], start: int, stop: int) -> int:
    file.seek(start)
    return sum(file.read(min(CHUNK, stop - place)).count(b"\n") for place in range(start, stop, CHUNK))
