"""Entries of dvc.lock: faults of the file, recorded parameters, and entries whose stage no longer exists."""

import shutil
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo
from ruamel.yaml import YAML

from ladder.data.atomic_write import whole
from ladder.integrity.lock_copy import forget, references
from ladder.integrity.lock_file import FIX, LOCK, decoded, lost_entries, split, structure_fault, unreadable
from ladder.integrity.lock_repair import is_valid, pipeline_outputs
from ladder.pipeline.stage import PARAMS, UserError, read_yaml

SHOWN = 3
"""Maximum number of names in a line of information."""


def unreadable_lock() -> str | None:
    """Return why dvc.lock cannot be read; None if it is readable or missing."""
    if not LOCK.exists():
        return None
    if fault := unreadable(LOCK.read_bytes()):
        return fault
    try:
        return structure_fault(_parsed_lock(LOCK.resolve(), LOCK.stat().st_mtime_ns))
    except UserError as refusal:
        return f"{refusal}. {FIX}"


def lock_faults() -> list[str]:
    """Return all faults of dvc.lock. Errors: UserError if the pipeline itself cannot be read."""
    if lost := unreadable_lock():
        return [lost]
    try:
        with Repo() as repo:
            return list(lost_from_lock(pipeline_outputs(repo))) if LOCK.exists() else []
    except DvcException as error:
        raise UserError(f"dvc.yaml: {' '.join(str(error).split())}") from None


def lost_from_lock(outputs: dict[str, list[str]]) -> Iterable[str]:
    """Find entries missing from dvc.lock that dvc.yaml needs and the lock copy or git's HEAD still holds."""
    places = references()
    texts = split(decoded(LOCK.read_bytes())).entries
    missing, cut = lost_entries(_lock(), texts, places, outputs, is_valid)
    for kind, names in (("missing", missing), ("cut", cut)):
        if names:
            where = " and ".join(places) or "no other place"
            yield (
                f"{LOCK}: torn; {len(names)} of {len(outputs)} entries are {kind} ({', '.join(names)}); "
                f"expected as in {where}. `ladder doctor --fix` restores them"
            )


def recorded_params() -> dict[str, Any]:
    """Return the parameters of each stage's last run from dvc.lock, by the key that dvc.yaml tracks."""
    recorded: dict[str, Any] = {}
    for name, entry in _lock().items():
        held = entry.get("params", {}) if isinstance(entry, dict) else None
        values = held.get(str(PARAMS), {}) if isinstance(held, dict) else None
        if not isinstance(values, dict):
            raise UserError(
                f"{LOCK}: {name}: expected an entry with params, as DVC writes it; `git checkout {LOCK}` restores it"
            )
        recorded |= values
    return recorded


def _lock() -> dict[str, Any]:
    parsed = _parsed_lock(LOCK.resolve(), LOCK.stat().st_mtime_ns) if LOCK.exists() else {}
    return parsed.get("stages") or {}


@lru_cache(maxsize=1)
def _parsed_lock(path: Path, changed: int) -> Any:
    """Parse dvc.lock, which takes seconds. Cached by path and modification time (ns)."""
    return read_yaml(LOCK)


def outputs(stages: list[Any]) -> list[Path]:
    """Return the outputs of all stages and `.dvc` files, relative to the repository root.

    DVC stores the output path of a `.dvc` file relative to that file's folder.
    """
    return [Path(out.fs_path).relative_to(Path.cwd()) for stage in stages for out in stage.outs]


def stale(names: Iterable[str]) -> list[str]:
    """Return the entries of dvc.lock whose stage no longer exists."""
    return sorted(set(_lock()) - set(names))


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
    owned = set(outputs(stages))
    yaml = YAML()
    document = yaml.load(LOCK.read_text(encoding="utf-8"))
    gone = stale(stage.addressing for stage in stages)
    for name in gone:
        for out in document["stages"].pop(name).get("outs", []):
            path = Path(out["path"])
            if not owned.isdisjoint((path, *path.parents)):  # also a file of a folder that a stage writes now
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    with whole(LOCK) as stream:
        yaml.dump(document, stream)
    forget(gone)
    return gone
