"""Rows of a file, read from disk on each iteration, so that several passes hold none of them in memory."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ladder.data.jsonl import Row, parse_row
from ladder.data.jsonl_stream import whole
from ladder.pipeline.stage import UserError


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
