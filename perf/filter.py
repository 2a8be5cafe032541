"""Throughput of the filters in rows per second on one core, each alone and all together, in CPU time.

    python -m perf.filter [--rows 20000] [--real rows.jsonl ...] [--tasks data/task]

Without --real the rows are synthetic: questions and answers of 20 to 300 words with Zipf-distributed frequencies; 1 in
50 is a duplicate, 1 in 100 a near-duplicate. `all together` is the stage's own path from file to file: rows are read,
checked, normalized, filtered with all steps fused, and written, including the gate. The last line is the peak memory
of three row filters at two sizes.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ladder.data.jsonl import Row
from ladder.data.jsonl_stream import Rows, whole
from ladder.data.wording import words
from ladder.filters.chain import FilterChain
from ladder.filters.executor import shards, spread
from ladder.filters.passes import BATCH_ROWS, run_passes
from ladder.filters.stats import total
from ladder.filters.steps import FilterContext, Step, parse

# `verified` is left out: its cost is that of the rows' checks, 21 ms for one that detects a language with langdetect.
STEPS: list[dict[str, Any]] = [
    {"length": {"min": 1, "max": 2000}},
    {"repetition": {"ngram": 3, "max": 0.9}},
    {"word_length": {"min": 1, "max": 20}},
    {"symbols": {"max": 0.5}},
    {"bullets": {"max": 1}},
    {"ellipses": {"max": 1}},
    {"alphabetic": {"min": 0}},
    {"stop_words": {"min": 0}},
    {"duplicate_lines": {"max": 1, "max_characters": 1}},
    {"duplicate_paragraphs": {"max": 1, "max_characters": 1}},
    {"top_ngrams": {"max": {2: 0.9, 3: 0.9, 4: 0.9}}},
    {"duplicate_ngrams": {"max": {5: 0.9, 6: 0.9, 7: 0.9, 8: 0.9, 9: 0.9, 10: 0.9}}},
    {"refusal": {"reject": ["full_refusal"]}},
    {"boilerplate": None},
    {"decontaminate": {"ngram": 8}},
    {"exact": None},
    {"near_duplicates": {"part": "all", "jaccard": 0.8, "ngram": 5, "unit": "words"}},
]
"""All filters without a model, with limits so wide that almost every row passes every filter."""


def synthetic(count: int) -> Iterable[Row]:
    """Generate rows of prompt and completion, the same ones at every call."""
    draw = random.Random(0)
    letters = "etaoinshrdlucmfwypvbgk"
    vocabulary = ["".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(20_000)]
    weights = [1 / (rank + 3) for rank in range(len(vocabulary))]
    said = ""
    for number in range(count):
        if number % 50 == 49:
            pass
        elif number % 100 == 20:
            said += f" {draw.choice(vocabulary)}"
        else:
            said = " ".join(draw.choices(vocabulary, weights, k=draw.randint(20, 300)))
        parts = said.split(" ", 15)
        yield {
            "id": f"row-{number}",
            "source": {"name": "made", "row": number},
            "prompt": [{"role": "user", "content": " ".join(parts[:15]) + "?"}],
            "completion": [{"role": "assistant", "content": parts[-1] + "."}],
        }


def alone(step: Step, path: Path, given: FilterContext) -> float:
    """Return rows per second of one filter with its pre-filter; for row filters, without reading the file."""
    rows = Rows([whole(path)])
    if step.kind == "rows":
        function, start = step.bound(given), time.process_time()
        return sum(1 for _ in function(rows)) / (time.process_time() - start)
    held, sieve = list(rows), FilterChain([step], given)
    sieve.sift(held[:1])
    start = time.process_time()
    for place in range(0, len(held), BATCH_ROWS):
        sieve.sift(held[place : place + BATCH_ROWS])
    return len(held) / (time.process_time() - start)


def together(path: Path, given: FilterContext, steps: list[Step]) -> tuple[float, int]:
    """Return (rows per second from file to file, rows kept). The benchmarks' n-grams, made once per process, are not
    timed."""
    FilterChain(parse([{"decontaminate": {"ngram": 8}}]), given).sift(
        [{"messages": [{"role": "user", "content": "Hi"}]}]
    )
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        done = run_passes(path, steps, given, Path(folder) / "passes", shards("local"), spread("local"))
        return total(done.tally, "in") / (time.process_time() - start), total(done.tally, "kept")


def peak(count: int, tasks: Path) -> float:
    """Return the peak memory in MiB of a separate process that runs three row filters on `count` synthetic rows."""
    command = [sys.executable, "-m", "perf.filter", "--only-memory", "--rows", str(count), "--tasks", str(tasks)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--real", type=Path, nargs="*", default=[])
    parser.add_argument("--tasks", type=Path, default=Path("data/task"))
    parser.add_argument("--only-memory", action="store_true")
    arguments = parser.parse_args()
    given, steps = (
        FilterContext(arguments.tasks, Path("models/base"), Path("models/base"), Path("prompts/quality")),
        parse(STEPS),
    )
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "synthetic.jsonl"
        with made.open("w") as file:
            file.writelines(json.dumps(row) + "\n" for row in synthetic(arguments.rows))
        if arguments.only_memory:
            together(made, given, [step for step in steps if step.name in ("length", "repetition", "decontaminate")])
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
            return
        for path in [made, *arguments.real]:
            lengths = [
                sum(len(words(m["content"])) for m in row["prompt"] + row["completion"]) for row in Rows([whole(path)])
            ]
            print(f"{path.name}: {len(lengths)} rows, {sum(lengths) / len(lengths):.0f} words each")
            for step in steps:
                print(f"  {step.label:22}{alone(step, path, given):12,.0f} rows/s")
            speed, kept = together(path, given, steps)
            print(f"  {'all together':22}{speed:12,.0f} rows/s, {kept} kept")
    few, many = arguments.rows, 4 * arguments.rows
    print(f"peak memory, three row filters: {peak(few, arguments.tasks):.0f} MiB at {few} rows, "
          f"{peak(many, arguments.tasks):.0f} MiB at {many}")  # fmt: skip


if __name__ == "__main__":
    main()
