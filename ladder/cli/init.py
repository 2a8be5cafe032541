"""Command `ladder init`: start a project from a recipe, and remove the records of the project before.

Everything is checked before anything is written. Then the files are written, and the outputs deleted; the entries of
dvc.lock, which name these outputs, go last. So a command that was interrupted is completed by running it again.
"""

import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ladder.cli.project_checks import check_clean, check_project
from ladder.cli.project_source import Data, base_of, data_of
from ladder.cli.project_text import project_text
from ladder.cli.recipe_files import PROJECTS, find
from ladder.data.atomic_write import whole
from ladder.integrity.lock_copy import dismiss_head
from ladder.pipeline.links import links, write_links
from ladder.pipeline.records import delete_outputs, drop_entries, is_owned
from ladder.pipeline.stage import PARAMS, read_yaml
from ladder.plan.expand import Stage, at, expand, read_lock

RECORDS = ("metrics", "plots", "report")
"""Folders whose files git tracks are records of results."""
SHOWN = 8
"""Maximum number of folders in the list of deleted outputs."""


@dataclass(frozen=True)
class Plan:
    """Files that `ladder init` will write and delete."""

    recipe: Path
    after: str
    """Text of the new params.yaml."""
    params: dict[str, Any]
    """Its sections as written."""
    data: Data | None
    """The user's file, if it is not in its place yet."""
    gone: list[str]
    """Entries of dvc.lock to remove."""
    deleted: list[Path]
    """Existing outputs of these entries, and other records of results that git tracks."""
    kept: set[Path] = field(default_factory=set)
    """Outputs of the entries that stay."""

    @property
    def before(self) -> str:
        """Text of params.yaml now; empty without one."""
        return PARAMS.read_bytes().decode() if PARAMS.is_file() else ""

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self.after == self.before and self.data is None and not self.gone

    @property
    def text(self) -> str:
        """What will be written and deleted, one line each."""
        lines = []
        if self.after != self.before:
            size = len(self.after.splitlines())
            lines.append(f"write   {PARAMS}, links.yaml  ({size} lines from {self.recipe})")
        if self.data is not None:
            lines.append(f"copy    {self.data.file} to {self.data.place}")
        if self.gone:
            lines.append(f"remove  {len(self.gone)} records of stages from dvc.lock")
        folders = Counter("/".join(path.parts[:2]) for path in self.deleted)
        lines += [f"delete  {folder}  ({count} outputs)" for folder, count in list(folders.items())[:SHOWN]]
        if len(folders) > SHOWN:
            lines.append(f"delete  outputs in {len(folders) - SHOWN} more folders")
        if self.deleted:
            lines.append("git has these files in earlier commits, or DVC's cache has them")
        return "\n".join(lines) or "nothing to do: this is the project already"

    @property
    def next_steps(self) -> str:
        """Commands that follow."""
        first = next((stage for stage in ("sft", "generate") if self.params.get(stage)), "report")
        kept = f"dvc add {self.data.place}    # large or private rows: keeps the file out of git\n" if self.data else ""
        return f"Next:\n{kept}ladder check\nladder plan\nladder repro {first}\ngit add --all && git commit"

    def document(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        return {
            "recipe": str(self.recipe),
            "copied": str(self.data.place) if self.data else None,
            "removed": self.gone,
            "deleted": [str(path) for path in self.deleted],
        }


def planned(name: str, base: str = "", data: Path | None = None) -> Plan:
    """Plan a project from a recipe, after all checks. Nothing is changed.

    Errors: UserError for an unknown recipe, a base or data file that does not fit, faults that `ladder check` would
    find, and files to be overwritten or deleted whose changes git does not have.
    """
    recipe = find(name, (PROJECTS,))
    own = read_yaml(recipe)
    changes: dict[str, Any] = base_of(own, base, recipe)
    copied, rows = data_of(own, data, recipe)
    text = project_text(recipe, {**changes, **rows})
    params = check_project(text, recipe, placed=copied.place if copied else None)
    lock, stages = read_lock(), expand(params)
    kept = unchanged(lock, stages, params)
    owned = {Path(out) for name in kept for out in stages[name].outs}
    gone = [name for name in lock if name not in kept]
    outputs = [Path(out["path"]) for name in gone for out in lock[name].get("outs") or []]
    outputs += [path for path in tracked_records() if not is_owned(path, set(outputs))]
    deleted = [path for path in dict.fromkeys(outputs) if path.exists() and not is_owned(path, owned)]
    if copied is not None and copied.is_placed:
        copied = None
    plan = Plan(recipe, text, params, copied, gone, deleted, owned)
    check_clean(text, gone, deleted)
    return plan


def unchanged(lock: dict[str, Any], stages: dict[str, Stage], params: dict[str, Any]) -> set[str]:
    """Return the entries of dvc.lock whose stage has the same command, parameters and inputs in the new project."""
    inherited = links(params)
    kept = {name for name, entry in lock.items() if name in stages and _is_same(entry, stages[name], params, inherited)}
    makers = {out["path"]: name for name, entry in lock.items() for out in entry.get("outs") or []}
    while stale := {name for name in kept if _lost_inputs(lock[name], makers, kept)}:
        kept -= stale
    return kept


def tracked_records() -> list[Path]:
    """Return the files that git tracks in the folders of results, which hold nothing else."""
    listed = subprocess.run(["git", "ls-files", "-z", "--", *RECORDS], capture_output=True, check=False)
    return [Path(name) for name in listed.stdout.decode().split("\0") if name]


def _is_same(entry: dict[str, Any], stage: Stage, params: dict[str, Any], inherited: dict[str, Any]) -> bool:
    recorded = entry.get("params") or {}
    values = {"params.yaml": {key: at(params, key) for key in stage.params}}
    if stage.linked:
        values["links.yaml"] = {key: at(inherited, key) for key in stage.linked}
    deps = {dep["path"] for dep in entry.get("deps") or []}
    return bool(entry.get("cmd") == stage.cmd and recorded == values and deps == set(stage.deps))


def _lost_inputs(entry: dict[str, Any], makers: dict[str, str], kept: set[str]) -> bool:
    for dep in entry.get("deps") or []:
        place = Path(dep["path"])
        made = [makers[str(path)] for path in (place, *place.parents) if str(path) in makers]
        inside = [maker for out, maker in makers.items() if place in Path(out).parents]
        if any(maker not in kept for maker in [*made, *inside]):
            return True
    return False


def carry_out(plan: Plan) -> None:
    """Write and delete what a plan states."""
    if plan.data is not None:
        plan.data.copy()
    if plan.after != plan.before:
        with whole(PARAMS) as file:
            file.write(plan.after.encode())
    write_links(plan.params)
    delete_outputs(plan.deleted, plan.kept)
    if plan.gone:
        dismiss_head()  # before the entries go: `ladder check` compares dvc.lock with git's HEAD
        drop_entries(plan.gone)
