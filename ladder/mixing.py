"""Rows of several files in one, in the proportions asked for: how many of each, which, and in what order.

No file is held: what is kept of a row is where it begins, eight bytes.
"""

import json
import random
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

from ladder.rows import Row
from ladder.run import Refused

TYPES = {
    "messages": {"messages"},
    "completion": {"prompt", "completion"},
    "preference": {"prompt", "chosen", "rejected"},
}


def apportion(weights: dict[str, float], rows: int) -> dict[str, int]:
    """Whole counts in proportion to the weights, `rows` in all: the largest remainders are rounded up (Hamilton's
    method), of equal ones the first."""
    # Exact, so that no rounding of floats decides a tie: a weight counts as the decimal that it is written as.
    exact = {name: Fraction(str(weight)) for name, weight in weights.items()}
    shares = {name: weight * rows / sum(exact.values()) for name, weight in exact.items()}
    counts = {name: int(share) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: counts[name] - shares[name])
    for name in by_remainder[: rows - sum(counts.values())]:
        counts[name] += 1
    return counts


def offsets(path: Path) -> "array[int]":
    """Where each row of a file begins. Errors: Refused when there is no file, or no row in it."""
    found, place = array("q"), 0
    try:
        with path.open("rb") as file:
            for line in file:
                if line.strip():
                    found.append(place)
                place += len(line)
    except FileNotFoundError:
        raise Refused(f"{path}: no such file") from None
    if not found:
        raise Refused(f"{path}: no rows")
    return found


def draw(sizes: list[int], counts: list[int], names: list[str], seed: int) -> "array[int]":
    """`counts[i]` rows of part i, whose file has `sizes[i]`, all in one random order.

    A row is told as its place in the parts laid end to end, plus the length of all of them for every time that it has
    been drawn before: a part of which more is asked than there is stands whole as often as it goes, then a random
    rest. What a part gives depends on its own name and count alone: another part's change leaves it as it was.
    """
    total, start, drawn = sum(sizes), 0, array("q")
    for size, count, name in zip(sizes, counts, names, strict=True):
        times, rest = divmod(count, size)
        for copy in range(times):
            drawn.extend(range(copy * total + start, copy * total + start + size))
        chosen = random.Random(f"{seed} {name}").sample(range(size), rest)
        drawn.extend(times * total + start + number for number in chosen)
        start += size
    random.Random(seed).shuffle(drawn)
    return drawn


def mixed(paths: list[Path], names: list[str], places: "list[array[int]]", drawn: "array[int]") -> Iterator[Row]:
    """The rows drawn. Each keeps `source`, or gets its part and its id or line there; `id` becomes its part and row,
    so that it is unique. Errors: Refused for a row that is not of the type of the first."""
    starts = [0, *accumulate(map(len, places))]
    kind = ""
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("rb")) for path in paths]
        for ticket in drawn:
            copy, place = divmod(ticket, starts[-1])
            part = bisect_right(starts, place) - 1
            number = place - starts[part]
            where = f"{paths[part]}: row {number + 1}"
            row = _at(files[part], places[part][number], where)
            found = _type(row, where)
            if found != (kind := kind or found):
                raise Refused(f"{where}: of type {found}, but the mixture is of {kind}; its parts must be of one type")
            own = f"{names[part]}:{number + 1}" + (f".{copy + 1}" if copy else "")
            source = row.get("source") or {"name": names[part], "row": row.get("id", number + 1)}
            yield {**row, "id": own, "source": source}


def _at(file: BinaryIO, place: int, where: str) -> Row:
    file.seek(place)
    try:
        row = json.loads(file.readline())
    except ValueError as error:
        raise Refused(f"{where}: not JSON: {error}") from None
    if not isinstance(row, dict):
        raise Refused(f"{where}: expected a JSON object, got {type(row).__name__}")
    return row


def _type(row: Row, where: str) -> str:
    for name, columns in TYPES.items():
        if columns <= row.keys():
            return name
    raise Refused(f"{where}: expected {', or '.join(', '.join(sorted(columns)) for columns in TYPES.values())}")
