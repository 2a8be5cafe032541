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

from ladder.data.jsonl import Kind, Row
from ladder.pipeline.stage import UserError

TYPES: dict[Kind, set[str]] = {
    "messages": {"messages"},
    "completion": {"prompt", "completion"},
    "preference": {"prompt", "chosen", "rejected"},
    "prompt": {"prompt"},
    "unpaired": {"prompt", "completion", "label"},
}
ONE_ANSWER = {"messages", "completion"}
"""Types that say the same in two ways: a row of one becomes a row of the other."""


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
    """Where each row of a file begins. Errors: UserError when there is no file, or no row in it."""
    found, place = array("q"), 0
    try:
        with path.open("rb") as file:
            for line in file:
                if line.strip():
                    found.append(place)
                place += len(line)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    if not found:
        raise UserError(f"{path}: no rows")
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


def mixed(
    paths: list[Path], names: list[str], places: "list[array[int]]", drawn: "array[int]", kind: Kind
) -> Iterator[Row]:
    """The rows drawn, as rows of `kind`. Each keeps `source`, or gets its part and its id or line there; `id` becomes
    its part and row, so that it is unique. Errors: UserError for a row that does not become one of `kind`."""
    starts = [0, *accumulate(map(len, places))]
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("rb")) for path in paths]
        for ticket in drawn:
            copy, place = divmod(ticket, starts[-1])
            part = bisect_right(starts, place) - 1
            number = place - starts[part]
            where = f"{paths[part]}: row {number + 1}"
            row = converted(_at(files[part], places[part][number], where), kind, where)
            own = f"{names[part]}:{number + 1}" + (f".{copy + 1}" if copy else "")
            yield {**row, "id": own, "source": origin(row, names[part], number + 1)}


def origin(row: Row, name: str, number: int) -> Row:
    """Where a row is from: as it says itself, or else row `number` of `name`, by its id where it has one."""
    return row.get("source") or {"name": name, "row": row.get("id", number)}


def common_type(paths: list[Path], places: "list[array[int]]") -> Kind:
    """The type that the rows of all files have or can become, by the first row of each: `messages` where some are and
    others are `prompt, completion`. Errors: UserError naming two files whose rows have none in common."""
    found: dict[Kind, Path] = {}
    for path, place in zip(paths, places, strict=True):
        with path.open("rb") as file:
            where = f"{path}: row 1"
            found.setdefault(row_type(_at(file, place[0], where), where), path)
    if len(found) == 1:
        return next(iter(found))
    if set(found) == ONE_ANSWER:
        return "messages"
    told = " and ".join(f"{path} has rows of {kind}" for kind, path in found.items())
    raise UserError(f"{told}: no type holds them all; mix files of one type, or of messages and completion")


def converted(row: Row, kind: Kind, where: str) -> Row:
    """A row as one of `kind`. No text is lost between `messages` and `prompt, completion`: the last answer is the
    completion, all before it the prompt. Errors: UserError for any other change of type."""
    found = row_type(row, where)
    if found == kind:
        return row
    if {found, kind} != ONE_ANSWER:
        raise UserError(f"{where}: of type {found}, which does not become {kind}")
    rest = {name: value for name, value in row.items() if name not in TYPES[found]}
    for name in TYPES[found]:
        if not isinstance(row[name], list):
            raise UserError(f"{where}: {name}: expected a list of messages, got {row[name]!r:.100}")
    if kind == "messages":
        return {**rest, "messages": row["prompt"] + row["completion"]}
    *prompt, answer = row["messages"] or [None]
    if not isinstance(answer, dict) or answer.get("role") != "assistant" or not prompt:
        raise UserError(f"{where}: messages do not end with an answer, so that they do not become {kind}")
    return {**rest, "prompt": prompt, "completion": [answer]}


def _at(file: BinaryIO, place: int, where: str) -> Row:
    file.seek(place)
    try:
        row = json.loads(file.readline())
    except ValueError as error:
        raise UserError(f"{where}: not JSON: {error}") from None
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected a JSON object, got {type(row).__name__}")
    return row


def row_type(row: Row, where: str) -> Kind:
    """Errors: UserError when a row has the columns of no type."""
    if TYPES["unpaired"] <= row.keys():  # never as `completion`: bad answers would be learned
        return "unpaired"
    for name, columns in TYPES.items():
        if columns <= row.keys():
            return name
    raise UserError(f"{where}: expected {', or '.join(', '.join(sorted(columns)) for columns in TYPES.values())}")
