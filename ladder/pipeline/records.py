"""Records of stages that ran: the entries of dvc.lock with their outputs, and their removal."""

import shutil
from collections.abc import Collection, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from dvc.repo import Repo

from ladder.data.atomic_write import whole
from ladder.integrity.lock_copy import forget
from ladder.integrity.lock_file import LOCK, LockText, decoded, split
from ladder.pipeline.stage import PARAMS, read_yaml

EMPTY = "schema: '2.0'\nstages: {}\n"
"""A dvc.lock without entries."""
SHOWN = 3
"""Maximum number of names in a line of information."""


def recorded_entries() -> dict[str, Any]:
    """Return the entries of dvc.lock by stage name; empty without dvc.lock."""
    return parsed_lock().get("stages") or {} if LOCK.exists() else {}


def parsed_lock() -> Any:
    """Parse dvc.lock, which takes seconds. Cached by path and modification time."""
    return _parsed_lock(LOCK.resolve(), LOCK.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _parsed_lock(path: Path, changed: int) -> Any:
    return read_yaml(path)


def outputs(stages: list[Any]) -> list[Path]:
    """Return the outputs of all stages and `.dvc` files, relative to the repository root.

    DVC stores the output path of a `.dvc` file relative to that file's folder.
    """
    return [Path(out.fs_path).relative_to(Path.cwd()) for stage in stages for out in stage.outs]


def stale(names: Iterable[str]) -> list[str]:
    """Return the entries of dvc.lock whose stage no longer exists."""
    return sorted(set(recorded_entries()) - set(names))


def leftovers(gone: list[str]) -> str:
    """Describe entries of dvc.lock whose stage no longer exists, in one line."""
    more = f" and {len(gone) - SHOWN} more" if len(gone) > SHOWN else ""
    return (
        f"{LOCK}: outputs of entries that {PARAMS} no longer has remain: {', '.join(gone[:SHOWN])}{more}. "
        "`ladder prune` removes them"
    )


def prune() -> list[str]:
    """Remove stale entries from dvc.lock, and delete their outputs that no current stage produces.

    Returns the names of the removed entries.
    """
    with Repo() as repo:
        stages = list(repo.index.stages)
    gone = stale(stage.addressing for stage in stages)
    delete_outputs(recorded_outputs(gone), set(outputs(stages)))
    drop_entries(gone)
    return gone


def recorded_outputs(names: Iterable[str]) -> list[Path]:
    """Return the outputs that dvc.lock records for these entries."""
    entries = recorded_entries()
    return [Path(out["path"]) for name in names for out in entries[name].get("outs") or []]


def is_owned(path: Path, owned: Collection[Path]) -> bool:
    """Return whether a path is an output among `owned`, or lies within one."""
    return any(place in owned for place in (path, *path.parents))


def delete_outputs(paths: Iterable[Path], owned: Collection[Path]) -> None:
    """Delete outputs, except those that belong to an output among `owned`, and the folders that this empties."""
    for path in paths:
        if is_owned(path, owned):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        for folder in list(path.parents)[:-2]:  # a top folder, such as data, stays
            if not folder.is_dir() or any(folder.iterdir()):
                break
            folder.rmdir()


def drop_entries(names: Collection[str]) -> None:
    """Remove entries from dvc.lock and from its backup copy; the text of other entries keeps every byte."""
    if names:
        found = split(decoded(LOCK.read_bytes()))
        kept = {name: text for name, text in found.entries.items() if name not in names}
        with whole(LOCK) as stream:
            stream.write(
                LockText(found.head if kept else "schema: '2.0'\nstages: {}\n", kept, found.tail).text.encode()
            )
    forget(list(names))
