"""Throughput and peak memory of stages.source on mixed formats, with one line in a hundred broken; all are counted.

python -m perf.source 200000
"""

import gzip
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from ladder.pipeline.stage import PARAMS, fit
from stages.source import Params, main

TEXT = "the ladder climbs from rows to rungs and every row says where it came from, even the ones that are broken"
WORDS = TEXT.split()


def good(number: int) -> dict[str, Any]:
    """Build a row of about a hundred words, in one of the formats in turn."""
    asked = f"{number}: " + " ".join(WORDS[(number + step) % len(WORDS)] for step in range(20))
    reply = " ".join(WORDS[(number * 7 + step) % len(WORDS)] for step in range(80))
    layouts: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": reply}]},
        {"conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": reply}]},
        {"instruction": asked, "input": "", "output": reply},
        {"prompt": asked, "completion": reply},
    ]
    return layouts[number % 4]


def broken(number: int) -> tuple[bytes, str]:
    """Build a broken line; return it with its reason in the quarantine's counts."""
    line = json.dumps(good(number)).encode()
    return [
        (line[: len(line) // 2], "not JSON"),
        (line.replace(b"rung", b"r\xfcng"), "not UTF-8"),
        (line.replace(b"rung", b"r\0ng"), "NUL byte"),
        (line.replace(b"rung", b"r\\u0000ng"), "NUL character"),
        (line.replace(b"rung", b"r\\ud800ng"), "not Unicode"),
        (line[:-1] + b', "id": 1, "id": 2}', "duplicate key"),
        (b'{"prompt": NaN, "completion": "x"}', "not JSON"),
        (b"[" + line + b"]", "not an object"),
        (b'{"text": "nothing that is known"}', "no format"),
        (b'{"prompt": "x", "completion": " "}', "empty text"),
        (b'{"conversations": [{"from": "narrator", "value": "x"}]}', "role"),
        (b'{"prompt": "x", "chosen": "a", "rejected": "b"}', "pair"),
        (b'{"instruction": "x", "output": ["y"]}', "not a text"),
    ][number // 100 % 13]


def lines(count: int) -> Iterator[tuple[bytes, str]]:
    """Yield (line, its quarantine reason, or "" for a good row); every hundredth line is broken."""
    for number in range(count):
        yield (json.dumps(good(number)).encode(), "") if number % 100 != 50 else broken(number)


def write_lines(path: Path, count: int) -> Counter[str]:
    """Write a file of lines, compressed if its name says so; return the number of broken lines by reason."""
    reasons: Counter[str] = Counter()
    opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wb") as file:
        for line, reason in lines(count):
            file.write(line + b"\n")
            reasons[reason] += bool(reason)
    return +reasons


def write_array(path: Path, count: int) -> None:
    """Write one JSON array of good rows."""
    with path.open("w") as file:
        for number in range(count):
            file.write(("[" if number == 0 else ",\n") + json.dumps(good(number)))
        file.write("]")


def write_csv(path: Path, count: int) -> None:
    """Write a csv of prompts and completions."""
    with path.open("w") as file:
        file.write("prompt,completion\n")
        for number in range(3, 4 * count, 4):
            row = good(number)
            file.write(f'"{row["prompt"]}","{row["completion"]}"\n')


def write_parquet(path: Path, count: int) -> None:
    """Write a parquet file of messages with a single row group."""
    rows = [good(number) for number in range(0, 4 * count, 4)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=count)


def peak() -> int:
    """Return the peak memory of this process in MiB."""
    # Not ru_maxrss: it starts at the parent's value.
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) >> 10


def one(raw: Path, file: str) -> None:
    """Read one file in this process and print the results."""
    params = fit(Params, {"source": file, "license": "none", "max_broken": 0.02}, str(PARAMS))
    before, started = peak(), time.monotonic()
    main(params, raw, raw / "out.jsonl", raw / "quarantine.jsonl", raw / "out.json")
    seconds = time.monotonic() - started
    counts = json.loads((raw / "out.json").read_text())
    rate = round(counts["read"] / seconds)
    accounted = f"{counts['read']:7} = {counts['rows']} + {counts['quarantined']}"
    print(f"{file:14}{accounted:26}{rate:7} rows/s  peak {peak()} MiB, {before} of it before the first row")


def compare(count: int) -> None:
    """Run every kind of file with a tenth of the rows and then all of them: memory must not grow."""
    with tempfile.TemporaryDirectory() as folder:
        for rows in (count // 10, count):
            raw = Path(folder) / str(rows)
            raw.mkdir()
            write_lines(raw / "rows.jsonl", rows)
            write_lines(raw / "rows.jsonl.gz", rows)
            write_array(raw / "rows.json", rows)
            write_csv(raw / "rows.csv", rows)
            write_parquet(raw / "rows.parquet", rows)
            for file in ("rows.jsonl", "rows.jsonl.gz", "rows.json", "rows.csv", "rows.parquet"):
                subprocess.run([sys.executable, "-m", "perf.source", str(raw), file], check=True)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        compare(int(sys.argv[1]))
    else:
        one(Path(sys.argv[1]), sys.argv[2])
