"""Checks of a new project before `ladder init` writes it: its params.yaml, and what git does not have."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ladder.integrity.lock_copy import head_commit, head_entries
from ladder.integrity.lock_file import LOCK, decoded, split
from ladder.pipeline.check import entry_faults, part_faults
from ladder.pipeline.defaults import with_defaults
from ladder.pipeline.dvc_file import read_pipeline
from ladder.pipeline.local_files import RAW
from ladder.pipeline.names import Fault, did_you_mean
from ladder.pipeline.param_checks import params_faults
from ladder.pipeline.stage import PARAMS, UserError, read_written
from ladder.pipeline.yaml_lines import dotted
from ladder.plan.expand import Stage, expand

SHOWN = 3
"""Maximum number of faults or files in a message."""


def check_project(text: str, recipe: Path, *, placed: Path | None = None) -> dict[str, Any]:
    """Return the sections of a new params.yaml as written, after the checks of `ladder check`.

    placed: file in data/raw that does not exist yet. Errors: UserError that lists the faults.
    """
    with tempfile.TemporaryDirectory() as folder:
        (file := Path(folder, PARAMS.name)).write_bytes(text.encode())
        try:
            written = read_written(file)
        except UserError as refusal:
            raise UserError(f"{recipe}: {str(refusal).replace(str(file), str(PARAMS))}; nothing was written") from None
    faults = [_sentence(fault) for fault in project_faults(written, placed)] or list(unmade(expand(written)))
    if faults:
        more = f"; {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise UserError(f"{recipe}: {'; '.join(faults[:SHOWN])}{more}. Nothing was written")
    return written


def project_faults(written: dict[str, Any], placed: Path | None = None) -> Iterator[Fault]:
    """Find the faults of params.yaml that `ladder check` would report."""
    params = with_defaults(written)
    absent = placed is not None and not placed.exists()
    own = [("source", name, "source") for name, entry in (params.get("source") or {}).items()
           if absent and placed == RAW / str(entry.get("source"))]  # fmt: skip
    found = [*params_faults(params, read_pipeline(), {}), *entry_faults(params), *part_faults(params)]
    return (fault for fault in found if tuple(fault.keys) not in own)


def unmade(stages: dict[str, Stage]) -> Iterator[str]:
    """Find inputs that no stage makes and git does not have."""
    made = {Path(out) for stage in stages.values() for out in stage.outs}
    reached = {folder for out in made for folder in (out, *out.parents)}
    for stage in stages.values():
        for dep in map(Path, stage.deps):
            if dep in reached or not made.isdisjoint(dep.parents):
                continue
            if not dep.exists() or _is_ignored(dep):
                near = did_you_mean(dep, [path for path in made if path.parts[0] == dep.parts[0]])
                yield f"{stage.name} needs {dep}, which no stage makes{near}"


def check_clean(text: str, gone: list[str], deleted: list[Path]) -> None:
    """Check that git has everything that will be overwritten or deleted.

    text: the new params.yaml. gone: entries of dvc.lock to remove. deleted: outputs to delete. What an interrupted
    `ladder init` has written and deleted is no change. Errors: UserError without git, and for changes that are not
    committed.
    """
    if not head_commit():
        raise UserError("git: no commit here; expected a repository with one, so that nothing is lost. Commit first")
    changed = [path for path in _changed_files() if any(place in deleted for place in (path, *path.parents))]
    if PARAMS.is_file() and PARAMS.read_bytes() != text.encode() and _changed_files(PARAMS):
        changed.insert(0, PARAMS)
    if LOCK.is_file():
        now, before = split(decoded(LOCK.read_bytes())).entries, head_entries()
        if [name for name in gone if now.get(name) != before.get(name)]:
            changed.insert(0, LOCK)
    if changed:
        more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        listed = ", ".join(str(path) for path in changed[:SHOWN])
        raise UserError(
            f"{listed}{more}: changed since the last commit; expected no change that would be lost. "
            "Commit it or run `git stash`, then repeat this command"
        )


def _changed_files(*paths: Path) -> list[Path]:
    """Return existing files that differ from git's HEAD, and new ones that git does not ignore."""
    command = ["git", "status", "--porcelain", "-z", "--untracked-files=all", "--no-renames", "--", *map(str, paths)]
    listed = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
    return [path for line in listed if line and (path := Path(line[3:])).exists()]


def _is_ignored(path: Path) -> bool:
    return subprocess.run(["git", "check-ignore", "-q", "--", str(path)], check=False).returncode == 0


def _sentence(fault: Fault) -> str:
    return f"{dotted(fault.keys)}: {fault.sentence}"
