"""Rows of a Parquet file, a few at a time, with values that Python cannot represent kept in their place."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from ladder.data.jsonl import Row
from ladder.pipeline.errors import UserError

PARQUET_BATCH = 64
"""Number of Parquet rows in memory at once. Each row may be as large as the longest text of a dictionary column."""


class Unreadable:
    """Placeholder for a Parquet value that Python cannot represent.

    Examples: a time after the year 9999, or one in an unknown time zone. The row is read, but it cannot be written as
    JSON.
    """

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __str__(self) -> str:
        return f"unreadable: {self.error}"


def parquet_rows(path: Path, name: str) -> Iterator[Row | None]:
    """Iterate over the rows of a Parquet file; None for a row with invalid UTF-8. Errors: UserError; ArrowInvalid."""
    with parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
        names = file.schema_arrow.names
        if twice := next((one for one in names if names.count(one) > 1), None):
            raise UserError(f"{name}: expected distinct column names, got two of {twice!r}")
        for batch in file.iter_batches(batch_size=PARQUET_BATCH):
            yield from _python(batch)


def _python(batch: pyarrow.RecordBatch) -> list[Row | None]:
    """Return the rows of a batch. A row with invalid UTF-8 becomes None, because Arrow does not validate text."""
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
