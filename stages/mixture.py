"""Mix several files of rows into one, by weights or counts; every row keeps its source. Mixtures can be nested.

python -m stages.mixture both data/part/both data/mixture/both.jsonl metrics/mixture/both.json
"""

from pathlib import Path

from pydantic import Field, model_validator

from ladder.data.atomic_write import whole
from ladder.data.jsonl import Kind, encoded, write_json
from ladder.data.mixing import apportion, common_type, draw, mixed, offsets
from ladder.pipeline.stage import Config, UserError, run


class Part(Config):
    """How much of a part is wanted: by weight or by count."""

    weight: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Share of the rows not claimed by counts, in proportion to the other weights; above 0."""
    count: int | None = Field(default=None, ge=1)
    """Number of rows."""
    repeat: bool = False
    """Oversample when more rows are wanted than the part has; otherwise this is refused."""

    @model_validator(mode="after")
    def one_measure(self) -> "Part":
        """Check that a part has either a weight or a count."""
        if (self.weight is None) == (self.count is None):
            raise ValueError("expected exactly one of weight and count")
        return self


class Params(Config):
    parts: dict[str, Part] = Field(min_length=1)
    """Parts by name: `own` of the mixture `both` is the entry `both/own` of the section `part`."""
    type: Kind | None = None
    """Type of the rows to write. Null takes the type of the parts, or `messages` when some parts have messages and
    others a prompt and a completion: these convert into each other without loss."""
    rows: int | None = Field(default=None, ge=1)
    """Total number of rows; null when every part has a count."""
    seed: int
    """Seed of the choice of rows and of their order."""

    @model_validator(mode="after")
    def adds_up(self) -> "Params":
        """Check that `rows`, counts and weights fit together, and that every part gets a row."""
        claimed = sum(part.count or 0 for part in self.parts.values())
        weighted = any(part.weight for part in self.parts.values())
        if weighted and (self.rows is None or self.rows <= claimed):
            raise ValueError(
                f"rows: expected more than {claimed}, the sum of all counts, to leave rows for the weights"
            )
        if not weighted and self.rows not in (None, claimed):
            raise ValueError(f"rows: expected null or {claimed}, the sum of all counts")
        for name, count in wanted(self).items():
            if not count:
                raise ValueError(
                    f"parts: {name} gets no row by its weight of {self.parts[name].weight:g}. Raise it or rows, or "
                    "remove the part."
                )
        return self


def wanted(params: Params) -> dict[str, int]:
    """Return the number of rows of each part, in the order of the parts."""
    counts = {name: part.count for name, part in params.parts.items() if part.count}
    weights = {name: part.weight for name, part in params.parts.items() if part.weight}
    shared = apportion(weights, params.rows - sum(counts.values())) if weights and params.rows else {}
    return {name: (counts | shared)[name] for name in params.parts}


def files(params: Params, folder: Path) -> list[Path]:
    """Return the file of every part. Errors: UserError when the folder has an unknown part or lacks one."""
    named = {folder / f"{name}.jsonl" for name in params.parts}
    there = set(folder.glob("**/*.jsonl"))
    for path in sorted(named - there):
        entry = path.relative_to(folder.parent).with_suffix("")
        raise UserError(f"{path}: no such file; a part is an entry of `part`: `{entry}: {{data: …}}`")
    for path in sorted(there - named):
        raise UserError(
            f"{path}: expected in mixture.{folder.name}.parts too, with its weight or count; what `part` no longer "
            "names, `ladder prune` removes"
        )
    return [folder / f"{name}.jsonl" for name in params.parts]


def main(params: Params, folder: Path, output: Path, metrics: Path) -> None:
    """Draw the rows of every part in the folder and write them to `output`, shuffled.

    metrics: JSON with the number of rows, their type, and the share of each part.
    Errors: UserError when a part is missing or unknown, or has too few rows.
    """
    paths, counts = files(params, folder), wanted(params)
    places = [offsets(path) for path in paths]
    for (name, count), path, place in zip(counts.items(), paths, places, strict=True):
        if count > len(place) and not params.parts[name].repeat:
            raise UserError(
                f"{path}: expected at least {count} rows, got {len(place)}. Ask for fewer, or set repeat: true."
            )
    kind = params.type or common_type(paths, places)
    drawn = draw([len(place) for place in places], list(counts.values()), list(counts), params.seed)
    with whole(output) as file:
        for row in mixed(paths, list(counts), places, drawn, kind):
            file.write(encoded(row, f"{output}: row {row['id']!r}"))
    parts = {
        name: {"rows": count, "of": len(place), "share": round(count / len(drawn), 4)}
        for (name, count), place in zip(counts.items(), places, strict=True)
    }
    write_json(metrics, {"rows": len(drawn), "type": kind, "parts": parts})


if __name__ == "__main__":
    run(main, named=True)
