"""Outputs of a stage for comparison between runs: every byte except the numbers that measure time or memory."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EXCLUDED = ("seconds", "tokens_per_second", "samples_per_second", "step_time", "memory_gb")
"""Keys of metrics and columns of curves that differ between two runs with the same inputs; all others are compared."""
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
        """Return the paths whose content differs, or that exist on one side only."""
        paths = self.hashes.keys() | other.hashes.keys()
        return sorted(path for path in paths if self.hashes.get(path) != other.hashes.get(path))


def outcome(root: Path, outputs: list[str]) -> Outcome:
    """Hash the contents of outputs, which are files or folders; a missing one is left out."""
    found = [root / name for name in outputs]
    files = sorted(path for one in found for path in (one.rglob("*") if one.is_dir() else [one]) if path.is_file())
    contents = {str(path.relative_to(root)): content(path) for path in files}
    return Outcome(
        {name: hashlib.sha256(text).hexdigest() for name, text in contents.items()},
        {name: len(text) for name, text in contents.items()},
    )


def content(path: Path) -> bytes:
    """Return a file's bytes; EXCLUDED keys and columns are removed from JSON documents and curves."""
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
    """Return every file below the folders."""
    return {path for folder in folders for path in folder.rglob("*") if path.is_file()}
