"""What a stage leaves on disk, to be compared between runs: every byte but the numbers that measure time or memory."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EXCLUDED = ("seconds", "tokens_per_second", "samples_per_second", "step_time", "memory_gb")
"""Keys of metrics and columns of curves that differ between two runs of the same inputs; all else is compared."""
PLACES = ("code", "data", "metrics", "models", "plots", "report")
"""Folders of a repository that stages write to."""


@dataclass(frozen=True)
class Outcome:
    """sha256 and size of each file, by its path."""

    hashes: dict[str, str]
    sizes: dict[str, int]

    @property
    def bytes(self) -> int:
        return sum(self.sizes.values())

    def differing(self, other: "Outcome") -> list[str]:
        """Paths whose content differs, or that one of the two lacks."""
        paths = self.hashes.keys() | other.hashes.keys()
        return sorted(path for path in paths if self.hashes.get(path) != other.hashes.get(path))


def outcome(root: Path, outputs: list[str]) -> Outcome:
    """The content of outputs, which are files or folders; one that is missing is left out."""
    found = [root / name for name in outputs]
    files = sorted(path for one in found for path in (one.rglob("*") if one.is_dir() else [one]) if path.is_file())
    contents = {str(path.relative_to(root)): content(path) for path in files}
    return Outcome(
        {name: hashlib.sha256(text).hexdigest() for name, text in contents.items()},
        {name: len(text) for name, text in contents.items()},
    )


def content(path: Path) -> bytes:
    """A file's bytes; of a JSON document and of a curve, without what is in EXCLUDED."""
    if path.suffix == ".json":
        return json.dumps(_timeless(json.loads(path.read_bytes())), ensure_ascii=False).encode()
    if path.suffix == ".tsv":
        rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
        kept = [place for place, name in enumerate(rows[0]) if name not in EXCLUDED]
        return "\n".join("\t".join(row[place] for place in kept) for row in rows).encode()
    return path.read_bytes()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(inner) for name, inner in value.items() if name not in EXCLUDED}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value


def files_below(*folders: Path) -> set[Path]:
    """Every file in the folders."""
    return {path for folder in folders for path in folder.rglob("*") if path.is_file()}
