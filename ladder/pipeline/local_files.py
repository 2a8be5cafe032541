"""Local files that params.yaml names, as inputs that DVC sees.

They are in data/raw, which the stage `code` depends on. It lists their hashes behind the modules of the stage that
names them (stages/code.py), so a changed file reruns that stage. The stage `source` depends on data/raw itself.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ladder.pipeline.yaml_lines import Keys

RAW = Path("data/raw")
LINK = f"link its files: `ln -s /path/to/it/* {RAW}/NAME/`"
"""Advice for files that are too large to move: DVC follows links to files."""
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
"""Beginning of a source that is no path: `hub:`, `wheel:`."""
FILE_KEYS = frozenset({"source", "include_path", "data_files"})
"""Keys whose values, or whose innermost values, name local files."""


def local_files(stage: str, section: Any) -> Iterator[tuple[Keys, str]]:
    """Iterate over (keys within the section, path) of every value of a stage's section that names a local file."""
    if stage == "source":  # its paths are relative to data/raw
        return
    for keys, value in _leaves(section, ()):
        if FILE_KEYS & set(keys) and isinstance(value, str) and value.strip() and not SCHEME.match(value):
            yield keys, value


def unseen(path: str) -> str:
    """Return why DVC would not notice a change of a local file; empty if it would."""
    parts = Path(path).parts
    if Path(path).is_absolute() or ".." in parts or parts[: len(RAW.parts)] != RAW.parts:
        return f"expected a path in {RAW}, where DVC sees it change, got {path!r}. Move it there, or {LINK}"
    folders = [Path(*parts[:end]) for end in range(len(RAW.parts) + 1, len(parts) + 1)]
    if linked := next((folder for folder in folders if folder.is_symlink() and folder.is_dir()), None):
        return f"{linked}: a link to a folder, into which DVC does not look; expected a folder. Make it one and {LINK}"
    return ""


def files_of(path: str) -> list[Path]:
    """Return the file, all files of the folder, or those that match a pattern, sorted; empty if there is none."""
    found = Path(path)
    if set("*?[") & set(path):
        return sorted(inner for inner in Path().glob(path) if inner.is_file())
    if found.is_dir():
        return sorted(inner for inner in found.rglob("*") if inner.is_file())
    return [found] if found.is_file() else []


def _leaves(content: Any, keys: Keys) -> Iterator[tuple[Keys, Any]]:
    if isinstance(content, dict | list):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from _leaves(value, (*keys, key))
    else:
        yield keys, content
