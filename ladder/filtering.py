"""How filters run: passes over shards of a file, so that memory holds one batch however many rows there are.

Filters that see a row or a batch are fused into one pass; one that sees all rows is a pass of its own. A pass reads
the shards of the one before and writes, for each, the rows it keeps and those that each filter rejects. Shards cut
the file in order and no filter but those of all rows sees past a row, so their number changes no byte of the result.
"""

import contextlib
import itertools
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import orjson

from ladder.decontamination import COMMON
from ladder.ledger import Tally, read_tally, source, total, write_tally
from ladder.row_lines import encoded, normalised, parsed, rewritten, told
from ladder.rows import Row, read_json, write_json
from ladder.run import Refused
from ladder.screens import ROWS, Batch, Kept
from ladder.shards import Rows, Shard, split, whole
from ladder.steps import Given, Step, passes

BATCH_ROWS, BATCH_BYTES = 256, 1 << 19
MOST_CHARACTERS = 1 << 20
"""Of a batch that is screened: what its arrays take is 50 times that in bytes."""
BUFFER = 1 << 17
TOLD = 10
"""Contaminated rows of a shard that are told of."""


@dataclass(frozen=True)
class Gate:
    """What no row that is kept may hold, as `decontaminate` has it."""

    ngram: int = 8
    common: int = COMMON
    covers: float = 0.0

    @classmethod
    def of(cls, steps: Sequence[Step]) -> "Gate":
        """As the first step `decontaminate` asks; where it is no step, any run of 8 words."""
        return next((cls(**step.parameters) for step in steps if step.name == "decontaminate"), cls())


@dataclass(frozen=True)
class Pass:
    """One pass: shard by shard it writes what is kept, what each step rejects, and the counts, into `folder`."""

    shards: tuple[Shard, ...]
    steps: tuple[Step, ...]
    given: Given
    folder: Path
    first: bool
    """It reads rows as the user has them: checks and normalises them."""
    gate: Gate | None
    """The last pass has it: what contaminates the rows that it keeps is counted, and told in a file beside."""

    def kept(self, number: int) -> Path:
        return self.folder / f"kept.{number:05}.jsonl"

    def rejected(self, label: str, number: int) -> Path:
        return self.folder / f"rejected.{label}.{number:05}.jsonl"

    def contaminated(self, number: int) -> Path:
        return self.folder / f"contaminated.{number:05}.json"

    def counts(self, number: int) -> Path:
        return self.folder / f"counts.{number:05}.json"

    def run(self, number: int) -> None:
        """All steps over one shard; any process of any machine that sees the files may do it."""
        bound = [Bound.of(step, self.given) for step in self.steps]
        gate = [Bound.of(Step("gate", "decontaminate", vars(self.gate)), self.given)] if self.gate else []
        data = self.shards[number].path
        tally: Tally = Counter()
        found: list[str] = []
        with self._writing(number) as (kept, rejected):
            for lines in _batches(self.shards[number].lines()):
                read = [self._read(line, f"{data}:{place}") for place, line in lines]
                if self.first:
                    tally.update(("in", "", source(row)) for row, _ in read)
                after, verdicts = sift([row for row, _ in read], bound)
                left = [row for row, verdict in zip(after, verdicts, strict=True) if verdict is None]
                contaminated = iter(sift(left, gate)[1])
                for (before, line), row, verdict in zip(read, after, verdicts, strict=True):
                    written = line if row is before else encoded(row, f"{data}: row {row.get('id')!r}")
                    if verdict is None:
                        kept.write(written)
                        if gate:
                            tally["kept", "", source(row)] += 1
                            tally["edited", "", ""] += bool(row.get("edited"))
                            if said := next(contaminated):
                                tally["contaminated", "", ""] += 1
                                found += [f"row {row.get('id')!r} {said[1]}"] if len(found) < TOLD else []
                    else:
                        tally["rejected", verdict[0], source(row)] += 1
                        rejected[verdict[0]].write(told(*verdict, written))
        write_json(self.contaminated(number), {"rows": found})
        write_tally(self.counts(number), tally)

    def run_all(self) -> None:
        """The one step that sees all rows, over all shards, in this process."""
        (step,) = self.steps
        verdicts = iter(step.bound(self.given)(Rows(self.shards)))
        for number, shard in enumerate(self.shards):
            tally: Tally = Counter()
            with self._writing(number) as (kept, rejected):
                for _, line in shard.lines():
                    reason: Any = next(verdicts, self)
                    if reason is self:
                        raise ValueError(f"{step.name} gave fewer verdicts than there are rows")
                    if reason is None:
                        kept.write(line)
                    else:
                        tally["rejected", step.label, source(orjson.loads(line))] += 1
                        rejected[step.label].write(told(step.label, reason, line))
            write_tally(self.counts(number), tally)
        if next(verdicts, self) is not self:
            raise ValueError(f"{step.name} gave more verdicts than there are rows")

    @contextlib.contextmanager
    def _writing(self, number: int) -> Iterator[tuple[IO[bytes], dict[str, IO[bytes]]]]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as files:
            yield (
                files.enter_context(self.kept(number).open("wb", buffering=BUFFER)),
                {one.label: files.enter_context(self.rejected(one.label, number).open("wb")) for one in self.steps},
            )

    def _read(self, line: bytes, where: str) -> tuple[Row, bytes]:
        """A row, and the line that it is written as."""
        if not self.first:
            return orjson.loads(line), line
        row, line = parsed(line, where)
        clean = normalised(row, where)
        return clean, line if clean is row else encoded(clean, where)


@dataclass(frozen=True)
class Bound:
    """A step with what it judges by."""

    step: Step
    function: Callable[..., Any]
    screen: Callable[[Batch], Kept] | None

    @classmethod
    def of(cls, step: Step, given: Given) -> "Bound":
        return cls(step, step.bound(given), step.screen(given))


def sift(rows: list[Row], steps: Sequence[Bound]) -> tuple[list[Row], list[tuple[str, str] | None]]:
    """(rows as the steps leave them, the label and the reason of the step that rejects each)."""
    rows = list(rows)
    verdicts: list[tuple[str, str] | None] = [None] * len(rows)
    for kind, group in itertools.groupby(steps, key=lambda bound: bound.step.kind):
        several = list(group)
        alive = [number for number, verdict in enumerate(verdicts) if verdict is None]
        if kind == "row":  # a row through all of them before the next: what they share of it is still at hand
            for number, doubtful in zip(alive, _doubtful([rows[number] for number in alive], several), strict=True):
                verdicts[number] = _verdict(rows[number], doubtful) if doubtful else None
            continue
        for bound in several:
            if kind == "text":
                for number in alive:
                    rows[number] = rewritten(rows[number], bound.function)
                continue
            reasons = bound.function([rows[number] for number in alive]) if alive else []
            for number, reason in zip(alive, reasons, strict=True):
                verdicts[number] = None if reason is None else (bound.step.label, reason)
            alive = [number for number in alive if verdicts[number] is None]
    return rows, verdicts


def _doubtful(rows: list[Row], steps: Sequence[Bound]) -> Iterator[list[Bound]]:
    """For each row the steps that may reject it."""
    for start in range(0, len(rows), ROWS):
        batch = Batch(rows[start : start + ROWS])
        if sum(map(len, batch.texts)) > MOST_CHARACTERS:
            yield from (list(steps) for _ in batch.rows)
            continue
        kept = [np.zeros(len(batch.rows), np.bool_) if one.screen is None else one.screen(batch) for one in steps]
        for doubts in (~np.array(kept)).T:
            yield list(itertools.compress(steps, doubts)) if doubts.any() else []


def _verdict(row: Row, steps: Sequence[Bound]) -> tuple[str, str] | None:
    reasons = ((bound.step.label, bound.function(row)) for bound in steps)
    return next(((label, reason) for label, reason in reasons if reason is not None), None)


def _batches(lines: Iterator[tuple[int, bytes]]) -> Iterator[list[tuple[int, bytes]]]:
    batch: list[tuple[int, bytes]] = []
    size = 0
    for place, line in lines:
        batch.append((place, line))
        size += len(line)
        if len(batch) == BATCH_ROWS or size > BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


@dataclass(frozen=True)
class Filtered:
    """What all passes leave on disk: files in order, to be joined."""

    kept: list[Path]
    rejected: dict[str, list[Path]]
    """By the step's label."""
    tally: Tally
    contaminated: list[str]
    """What the gate found in rows that are kept, the first of a shard."""


def run_passes(
    data: Path, steps: Sequence[Step], given: Given, folder: Path, shards: int, spread: Callable[[Pass], None]
) -> Filtered:
    """Filter a file of rows. `spread` runs a pass over all its shards: here, or on other machines.

    Errors: Refused when a step leaves nothing, and naming the file and line of what is no row.
    """
    cut, tally, found = tuple(split(data, shards)), Tally(), list[str]()
    rejected: dict[str, list[Path]] = {}
    parts = passes(steps)
    for place, part in enumerate(parts):
        last = place == len(parts) - 1
        one = Pass(cut, part, given, folder / f"{place:02}", place == 0, Gate.of(steps) if last else None)
        one.run_all() if part and part[0].kind == "rows" else spread(one)
        numbers = range(len(cut))
        tally.update(sum((read_tally(one.counts(number)) for number in numbers), Tally()))
        rejected |= {step.label: [one.rejected(step.label, number) for number in numbers] for step in part}
        _refuse_nothing(data, tally, rejected)
        if place:
            for shard in cut:
                shard.path.unlink()
        if last:
            found = [one_found for number in numbers for one_found in read_json(one.contaminated(number))["rows"]]
        cut = tuple(whole(one.kept(number)) for number in numbers)
    return Filtered([shard.path for shard in cut], rejected, tally, found)


def _refuse_nothing(data: Path, tally: Tally, rejected: dict[str, list[Path]]) -> None:
    left = total(tally, "in") - sum(total(tally, "rejected", label) for label in rejected)
    if left:
        return
    if not total(tally, "in"):
        raise Refused(f"{data}: no rows")
    emptied = [label for label in rejected if total(tally, "rejected", label)][-1]
    reason = next(_first_reason(path) for path in rejected[emptied] if path.stat().st_size)
    raise Refused(f"{data}: no row is left after {emptied}: {reason}, and so on")


def _first_reason(path: Path) -> str:
    with path.open("rb") as file:
        return str(json.loads(file.readline())["reason"])


def join(parts: Sequence[Path], target: Path) -> None:
    """The parts' bytes in order as one file, which is whole or not there; the parts are gone."""
    target.parent.mkdir(parents=True, exist_ok=True)
    joined = target.with_name(f".{target.name}.{os.getpid()}")
    for part in parts[:1]:
        os.replace(part, joined)
    with joined.open("ab") as file:
        for part in parts[1:]:
            with part.open("rb") as more:
                shutil.copyfileobj(more, file)
            part.unlink()
    os.replace(joined, target)
