"""Two files of rows in one, by weights or counts; every row keeps where it came from. A mixture of more is a mixture
of mixtures.

python -m stages.mixture chat data/filter/chat.jsonl data/source/hh.jsonl data/mixture/chat.jsonl \
    metrics/mixture/chat.json
"""

import json
from pathlib import Path

from pydantic import Field, model_validator

from ladder.mixing import apportion, draw, mixed, offsets
from ladder.rows import write_json
from ladder.run import Refused, Section, run
from ladder.writing import whole


class Part(Section):
    """Where a part of a mixture is, and how much of it is wanted: by weight or by count."""

    data: str
    """The file of rows under data/: `filter/chat`, `source/hh`, `mixture/both`."""
    weight: float | None = Field(default=None, gt=0)
    """Its share of the rows that no count claims, in proportion to the other weights."""
    count: int | None = Field(default=None, ge=1)
    """So many rows."""
    repeat: bool = False
    """Where more rows are wanted than there are, take some of them again; otherwise that is refused."""

    @model_validator(mode="after")
    def one_measure(self) -> "Part":
        if (self.weight is None) == (self.count is None):
            raise ValueError("expected weight or count, one of them")
        return self


class Params(Section):
    parts: tuple[Part, Part]
    """A list: dvc.yaml reads each one's `data` as a dependency, by its place."""
    rows: int | None = Field(default=None, ge=1)
    """Rows in all; null where both parts have a count."""
    seed: int
    """Which rows, and their order."""

    @model_validator(mode="after")
    def adds_up(self) -> "Params":
        if len({part.data for part in self.parts}) < len(self.parts):
            raise ValueError(f"parts: {self.parts[0].data} stands twice")
        claimed = sum(part.count or 0 for part in self.parts)
        weighted = any(part.weight for part in self.parts)
        if weighted and (self.rows is None or self.rows <= claimed):
            raise ValueError(f"rows: expected more than the {claimed} that counts claim, for weights to share")
        if not weighted and self.rows not in (None, claimed):
            raise ValueError(f"rows: expected null or the {claimed} of both counts")
        return self


def wanted(params: Params) -> dict[str, int]:
    """How many rows of each part, in the order of the parts."""
    counts = {part.data: part.count for part in params.parts if part.count}
    weights = {part.data: part.weight for part in params.parts if part.weight}
    shared = apportion(weights, params.rows - sum(counts.values())) if weights and params.rows else {}
    return {part.data: (counts | shared)[part.data] for part in params.parts}


def main(params: Params, first: Path, second: Path, output: Path, metrics: Path) -> None:
    paths, counts = [first, second], wanted(params)
    places = [offsets(path) for path in paths]
    for part, path, place in zip(params.parts, paths, places, strict=True):
        count = counts[part.data]
        if count > len(place) and not part.repeat:
            raise Refused(
                f"{path}: {count} rows are wanted and it has {len(place)}; ask for fewer, or set repeat: true"
            )
    drawn = draw([len(place) for place in places], list(counts.values()), list(counts), params.seed)
    with whole(output) as file:
        for row in mixed(paths, list(counts), places, drawn):
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n")
    parts = {
        name: {"rows": count, "of": len(place), "share": round(count / len(drawn), 4)}
        for (name, count), place in zip(counts.items(), places, strict=True)
    }
    write_json(metrics, {"rows": len(drawn), "parts": parts})


if __name__ == "__main__":
    run(main, named=True)
