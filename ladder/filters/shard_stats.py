"""Per-shard metadata of a filter pass: row count, contamination hits, sketches."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ladder.data.jsonl import read_json, write_json
from ladder.filters.shingles import Hashes
from ladder.filters.steps import Step

MAX_SPANS = 1000


@dataclass
class Remains:
    """Metadata of one shard of kept rows, stored in files beside it."""

    kept: Path
    """The file of kept rows. Metadata files have the same name with another suffix."""
    rows: int = 0
    contaminated: dict[int, str] = field(default_factory=dict)
    """Contamination description by row index in the file; empty strings after the first MAX_SPANS."""

    def add_contaminated(self, said: str) -> None:
        """Record that the next row is contaminated."""
        self.contaminated[self.rows] = said if len(self.contaminated) < MAX_SPANS else ""

    @classmethod
    def read(cls, kept: Path) -> "Remains":
        value = read_json(kept.with_suffix(".json"))
        return cls(kept, value["rows"], dict(value["contaminated"]))

    def write(self) -> None:
        write_json(self.kept.with_suffix(".json"), {"rows": self.rows, "contaminated": list(self.contaminated.items())})

    @contextlib.contextmanager
    def sketching(self, steps: Sequence[Step]) -> Iterator[list[IO[bytes]]]:
        """Open a file for the sketches of each step."""
        with contextlib.ExitStack() as files:
            yield [files.enter_context(self._sketch(step).open("wb")) for step in steps]

    def sketch(self, step: Step) -> Hashes:
        """Sketches of a step as a memory map, shape [rows, numbers]."""
        if not self.rows:
            return np.zeros((0, 1), np.uint64)
        return np.memmap(self._sketch(step), np.uint64, "r").reshape(self.rows, -1)

    def hand_on(self, kept: Path, keeps: NDArray[np.bool_], steps: Sequence[Step]) -> None:
        """Write the metadata of the same shard after a step that keeps only some of its rows."""
        places = np.cumsum(keeps) - 1
        contaminated = {int(places[place]): span for place, span in self.contaminated.items() if keeps[place]}
        remains = Remains(kept, int(keeps.sum()), contaminated)
        with remains.sketching(steps) as files:
            for file, step in zip(files, steps, strict=True):
                file.write(self.sketch(step)[keeps].tobytes() if self.rows else b"")
        remains.write()

    def remove(self) -> None:
        for path in self.kept.parent.glob(f"{self.kept.stem}.*"):
            path.unlink()

    def _sketch(self, step: Step) -> Path:
        return self.kept.with_suffix(f".{step.label}")
