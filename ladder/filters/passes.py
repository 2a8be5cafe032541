"""Run filter steps as passes over shards of a file, with one batch of rows in memory.

Consecutive steps that see a row, a text or a batch are fused into one pass. A step that sees all rows is a pass of its
own. A pass reads the shards of the previous pass. For each shard it writes the kept rows and, per step, the rejected
rows. Shards split the file in order, and only steps that see all rows look across rows, so the number of shards does
not change the result.
"""

import contextlib
import gc
import itertools
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import orjson

from ladder.data.atomic_write import replacing
from ladder.data.jsonl import Row
from ladder.data.jsonl_stream import Rows, Shard, split, whole
from ladder.filters.chain import GATE, FilterChain, stays
from ladder.filters.decontamination import COMMON, COVERS
from ladder.filters.row_io import normalized, parsed, rejection, with_texts
from ladder.filters.shard_stats import Remains
from ladder.filters.stats import Tally, read_tally, source, total, write_tally
from ladder.filters.steps import FilterContext, Step, passes
from ladder.pipeline.stage import UserError

BATCH_ROWS, BATCH_BYTES = 256, 1 << 19
BUFFER = 1 << 17
MAX_SPANS = 10
"""Maximum number of contaminated rows reported per shard."""


@dataclass(frozen=True)
class Gate:
    """Parameters of the final contamination check on kept rows; the fields are those of `decontaminate`."""

    ngram: int = 8
    common: int = COMMON
    covers: float = COVERS

    @classmethod
    def of(cls, steps: Sequence[Step]) -> "Gate":
        """Use the parameters of the first `decontaminate` step; without one, 8-grams and the defaults."""
        return next((cls(**step.parameters) for step in steps if step.name == "decontaminate"), cls())


@dataclass(frozen=True)
class Pass:
    """One pass over all shards. Per shard it writes kept rows, rejected rows of each step, and counts into `folder`."""

    shards: tuple[Shard, ...]
    steps: tuple[Step, ...]
    given: FilterContext
    folder: Path
    first: bool
    """Whether this pass reads the user's rows, which it validates and normalizes."""
    gate: Gate | None
    """Contamination check of the kept rows, set on the last pass that may change a row. It only reports hits."""
    sketched: tuple[Step, ...]
    """The all-row steps that follow directly. This pass computes their sketches, or copies existing ones."""

    def kept(self, number: int) -> Path:
        return self.folder / f"kept.{number:05}.jsonl"

    def rejected(self, label: str, number: int) -> Path:
        return self.folder / f"rejected.{label}.{number:05}.jsonl"

    def counts(self, number: int) -> Path:
        return self.folder / f"counts.{number:05}.json"

    def run(self, number: int) -> None:
        """Run all steps over one shard. Any process on any machine with access to the files can run this."""
        gate = [Step(GATE, "decontaminate", vars(self.gate))] if self.gate else []
        sieve = FilterChain([*self.steps, *gate], self.given, self.sketched)
        gc.freeze()  # models and benchmarks live until the end, so the collector need not scan them again
        data = self.shards[number].path
        tally: Tally = Counter()
        remains = Remains(self.kept(number))
        with self._writing(number) as (kept, rejected), remains.sketching(self.sketched) as sketches:
            for lines in _batches(self.shards[number].lines()):
                read = [self._read(line, f"{data}:{place}") for place, line in lines]
                if self.first:
                    tally.update(("in", "", source(row)) for row, _ in read)
                    tally["edited", "", ""] += sum(bool(row.get("edited")) for row, _ in read)
                sifted = sieve.sift([row for row, _ in read], partial(self._where, lines, read))
                for (before, line), row, verdict in zip(read, sifted.rows, sifted.verdicts, strict=True):
                    written = line if row is before else with_texts(line, row, f"{data}: row {row.get('id')!r}")
                    if verdict is not None and not stays(verdict):
                        _reject(tally, verdict[0], row)
                        rejected[verdict[0]].write(rejection(*verdict, written))
                        continue
                    if verdict is not None:
                        remains.add_contaminated(f"row {row.get('id')!r} {verdict[1]}")
                    kept.write(written)
                    remains.rows += 1
                for file, made in zip(sketches, sifted.sketches, strict=True):
                    file.write(made.tobytes())
        remains.write()
        write_tally(self.counts(number), tally)

    def run_all(self) -> None:
        """Run the single all-row step over all shards, in this process.

        Errors: ValueError when the filter returns too few or too many verdicts.
        """
        (step,) = self.steps
        before = [Remains.read(shard.path) for shard in self.shards]
        sketches = [remains.sketch(step) for remains in before] if step.sketch else None
        verdicts = iter(step.bound(self.given)(Rows(self.shards, sketches)))
        for number, shard in enumerate(self.shards):
            tally: Tally = Counter()
            keeps = bytearray()
            with self._writing(number) as (kept, rejected):
                for _, line in shard.lines():
                    reason: Any = next(verdicts, self)
                    if reason is self:
                        raise ValueError(f"{step.name} returned fewer verdicts than there are rows")
                    keeps.append(reason is None)
                    if reason is None:
                        kept.write(line)
                    else:
                        _reject(tally, step.label, orjson.loads(line))
                        rejected[step.label].write(rejection(step.label, reason, line))
            before[number].hand_on(self.kept(number), np.frombuffer(keeps, np.bool_), self.sketched)
            write_tally(self.counts(number), tally)
        if next(verdicts, self) is not self:
            raise ValueError(f"{step.name} returned more verdicts than there are rows")

    @contextlib.contextmanager
    def _writing(self, number: int) -> Iterator[tuple[IO[bytes], dict[str, IO[bytes]]]]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as files:
            yield (
                files.enter_context(self.kept(number).open("wb", buffering=BUFFER)),
                {one.label: files.enter_context(self.rejected(one.label, number).open("wb")) for one in self.steps},
            )

    def _where(self, lines: list[tuple[int, bytes]], read: list[tuple[Row, bytes]], at: int) -> str:
        """Location of a row for error messages: file and line in the first pass, the row's id in later passes."""
        path = self.shards[0].path
        return f"{path}:{lines[at][0]}" if self.first else f"row {read[at][0].get('id')!r}"

    def _read(self, line: bytes, where: str) -> tuple[Row, bytes]:
        """Parse a line into (row, line to write). The first pass validates and normalizes the row."""
        if not self.first:
            return orjson.loads(line), line
        row, line = parsed(line, where)
        clean = normalized(row, where)
        return clean, line if clean is row else with_texts(line, clean, where)


def _reject(tally: Tally, label: str, row: Row) -> None:
    tally["rejected", label, source(row)] += 1
    if row.get("edited"):
        tally["edited", label, ""] += 1


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
    """Output files of all passes, in order, ready to be joined."""

    kept: list[Path]
    rejected: dict[str, list[Path]]
    """Files of rejected rows by step label."""
    tally: Tally
    contaminated: list[str]
    """Descriptions of contaminated kept rows, at most MAX_SPANS per shard."""


def run_passes(
    data: Path, steps: Sequence[Step], given: FilterContext, folder: Path, shards: int, spread: Callable[[Pass], None]
) -> Filtered:
    """Filter a file of rows. `spread` runs a pass over all its shards, locally or on other machines.

    Errors: UserError when no row is left after a step, and for an invalid row, with its file and line.
    """
    cut, tally = tuple(split(data, shards)), Tally()
    rejected: dict[str, list[Path]] = {}
    parts = passes(steps)
    last_change = max(place for place, part in enumerate(parts) if not _sees_all(part))
    for place, part in enumerate(parts):
        following = itertools.takewhile(_sees_all, parts[place + 1 :])
        sketched = tuple(step for (step,) in following if step.sketch)
        gate = Gate.of(steps) if place == last_change else None
        one = Pass(cut, part, given, folder / f"{place:02}", place == 0, gate, sketched)
        one.run_all() if _sees_all(part) else spread(one)
        numbers = range(len(cut))
        tally.update(sum((read_tally(one.counts(number)) for number in numbers), Tally()))
        rejected |= {step.label: [one.rejected(step.label, number) for number in numbers] for step in part}
        _refuse_nothing(data, tally, rejected)
        if place:
            for shard in cut:
                Remains(shard.path).remove()
        cut = tuple(whole(one.kept(number)) for number in numbers)
    remains = [Remains.read(shard.path) for shard in cut]
    for name in sorted({name for event, _, name in tally if event == "in"}):
        tally["kept", "", name] = total(tally, "in", name=name) - total(tally, "rejected", name=name)
    tally["contaminated", "", ""] = sum(len(one.contaminated) for one in remains)
    found = [span for one in remains for span in list(filter(None, one.contaminated.values()))[:MAX_SPANS]]
    return Filtered([shard.path for shard in cut], rejected, tally, found)


def _sees_all(steps: tuple[Step, ...]) -> bool:
    return bool(steps) and steps[0].kind == "rows"


def _refuse_nothing(data: Path, tally: Tally, rejected: dict[str, list[Path]]) -> None:
    left = total(tally, "in") - sum(total(tally, "rejected", label) for label in rejected)
    if left:
        return
    if not total(tally, "in"):
        raise UserError(f"{data}: no rows")
    emptied = [label for label in rejected if total(tally, "rejected", label)][-1]
    reason = next(_first_reason(path) for path in rejected[emptied] if path.stat().st_size)
    raise UserError(f"{data}: no row is left after {emptied}. Its first reason: {reason}.")


def _first_reason(path: Path) -> str:
    with path.open("rb") as file:
        return str(orjson.loads(file.readline())["reason"])


def join(parts: Sequence[Path], target: Path) -> None:
    """Concatenate files in order into `target` and delete them. `target` is written atomically."""
    with replacing(target) as joined:
        for part in parts[:1]:
            os.replace(part, joined)
        with joined.open("ab") as file:
            for part in parts[1:]:
                with part.open("rb") as more:
                    shutil.copyfileobj(more, file)
                part.unlink()
