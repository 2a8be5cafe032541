"""Mix rows from several files in given proportions: row counts, sampling and shuffling.

Files are not loaded. Memory holds one 8-byte offset per row.
"""

import random
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

from ladder.data.jsonl import Kind, Row, parse_row
from ladder.data.turns import TYPES, row_type
from ladder.pipeline.errors import UserError

ONE_ANSWER = {"messages", "completion"}
"""Row types with the same content, which are convertible into each other."""


def apportion(weights: dict[str, float], rows: int) -> dict[str, int]:
    """Allocate `rows` among the weights as whole counts by the largest-remainder method (Hamilton).

    Equal remainders are rounded up in the order of `weights`.
    """
    # Exact fractions of the decimals as written, so that float rounding does not decide a tie.
    exact = {name: Fraction(str(weight)) for name, weight in weights.items()}
    shares = {name: weight * rows / sum(exact.values()) for name, weight in exact.items()}
    counts = {name: int(share) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: counts[name] - shares[name])
    for name in by_remainder[: rows - sum(counts.values())]:
        counts[name] += 1
    return counts


def offsets(path: Path) -> "array[int]":
    """Return the byte offset of each row in a file. Errors: UserError for a missing file, or one without rows."""
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
    """Sample `counts[i]` rows from part i, whose file has `sizes[i]` rows, and shuffle them all together.

    Returns tickets. A ticket is `copy * sum(sizes) + place`: `place` is the row's index in the concatenated parts,
    and `copy` counts how often the row was drawn before. If `counts[i] > sizes[i]`, every row is repeated `counts[i]
    // sizes[i]` times, and the remainder is sampled without replacement.

    The sample of a part depends only on `seed` and on its own name, size and count. A change to another part does not
    affect which rows are drawn.
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
    """Iterate over the drawn rows, converted to type `kind`.

    `id` becomes `PART:ROW`, with `.COPY` for a repeated row, so that it is unique. `source` is kept if the row has
    one; otherwise it holds the part's name and the row's id or row number. Errors: UserError for a row that cannot be
    converted to `kind`.
    """
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
    """Return a row's provenance: its own `source`, or else `name` with the row's id (`number` if it has none)."""
    return row.get("source") or {"name": name, "row": row.get("id", number)}


def common_type(paths: list[Path], places: "list[array[int]]") -> Kind:
    """Return the row type that all files have or can be converted to, from the first row of each file.

    A mix of `messages` and `prompt, completion` becomes `messages`. Errors: UserError listing the files when no type
    fits all of them.
    """
    found: dict[Kind, Path] = {}
    for path, place in zip(paths, places, strict=True):
        with path.open("rb") as file:
            where = f"{path}: row 1"
            found.setdefault(row_type(_at(file, place[0], where), where), path)
    if len(found) == 1:
        return next(iter(found))
    if set(found) == ONE_ANSWER:
        return "messages"
    types = " and ".join(f"{path} has rows of {kind}" for kind, path in found.items())
    raise UserError(f"{types}: expected one row type. Mix files of one type, or of messages and completion.")


def converted(row: Row, kind: Kind, where: str) -> Row:
    """Convert a row to type `kind`.

    The conversion between `messages` and `prompt, completion` is lossless: the completion is the last answer, the
    prompt is everything before it. Errors: UserError for any other conversion.
    """
    found = row_type(row, where)
    if found == kind:
        return row
    if {found, kind} != ONE_ANSWER:
        raise UserError(f"{where}: of type {found}, which cannot be converted to {kind}")
    rest = {name: value for name, value in row.items() if name not in TYPES[found]}
    for name in TYPES[found]:
        if not isinstance(row[name], list):
            raise UserError(f"{where}: {name}: expected a list of messages, got {row[name]!r:.100}")
    if kind == "messages":
        return {**rest, "messages": row["prompt"] + row["completion"]}
    *prompt, answer = row["messages"] or [None]
    if not isinstance(answer, dict) or answer.get("role") != "assistant" or not prompt:
        raise UserError(f"{where}: messages: expected an answer at the end, without which they do not become {kind}")
    return {**rest, "prompt": prompt, "completion": [answer]}


def _at(file: BinaryIO, place: int, where: str) -> Row:
    file.seek(place)
    return parse_row(file.readline(), where)
