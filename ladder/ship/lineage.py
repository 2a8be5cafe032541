"""Lineage of a rung: every rung from the base to it, with method, data and hashes.

Read from the rung.json of each rung where it is here, else from dvc.lock, which git keeps. So a model card can be
written in a clone that has pulled no model.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ladder.models.rung import read_description
from ladder.pipeline.errors import UserError
from ladder.pipeline.stage import read_yaml
from ladder.ship.rung_folder import MODELS

LOCK = Path("dvc.lock")
ANSWERED = ("generate", "preferences", "synthesize", "teacher_logits")
"""Stages whose data a model writes."""


@dataclass(frozen=True)
class File:
    """Input of a stage, as dvc.lock records it."""

    path: str
    md5: str
    bytes: int


@dataclass(frozen=True)
class Step:
    """One rung of a lineage."""

    rung: str
    method: str
    parents: tuple[str, ...]
    data: tuple[File, ...]
    settings: dict[str, Any]
    identity: str | None
    """SHA-256 of rung.json; None if the rung is not here."""
    md5: str | None
    """DVC's hash of the folder; None if dvc.lock does not record it."""
    quantization: dict[str, Any] | None
    """BitsAndBytesConfig arguments of a QLoRA adapter; None also if the rung is not here."""
    kind: str | None
    """`complete` or `adapter`; None if the rung is not here."""


class Lock:
    """Stages of dvc.lock, by the path that they write."""

    def __init__(self, path: Path = LOCK) -> None:
        stages: dict[str, Any] = read_yaml(path)["stages"] if path.is_file() else {}
        self._stages = {out["path"]: (name, stage) for name, stage in stages.items() for out in stage.get("outs", [])}

    def maker(self, path: str) -> str | None:
        """Return the stage that writes a path, such as `sft@words`; None if dvc.lock has none."""
        return self._stages[path][0] if path in self._stages else None

    def md5(self, path: str) -> str | None:
        """Return DVC's hash of an output; None if dvc.lock has none."""
        outs = self._stages[path][1]["outs"] if path in self._stages else []
        return next((out.get("md5") for out in outs if out["path"] == path), None)

    def inputs(self, path: str) -> list[File]:
        """Return the files and folders of data/ and models/ that the stage of an output reads, each once."""
        deps = self._stages[path][1].get("deps", []) if path in self._stages else []
        found = {dep["path"]: File(dep["path"], dep["md5"], dep["size"]) for dep in deps if "md5" in dep}
        kept = [file for name, file in found.items() if name.startswith(("data/", "models/"))]
        return [file for file in kept if not file.path.startswith(("data/templates", "data/task", "data/seeds"))]

    def settings(self, path: str) -> dict[str, Any]:
        """Return the params of the stage of an output: those of params.yaml over those that links.yaml inherits."""
        section = (self.maker(path) or "").replace("@", ".")
        found: dict[str, Any] = self.sections(path).get(section) or {}
        return {key: value for key, value in found.items() if key != "tracked"}

    def sections(self, path: str) -> dict[str, Any]:
        """Return all params that the stage of an output depends on, by their key: `sft.words`, `report.rungs`."""
        files: dict[str, Any] = self._stages[path][1].get("params", {}) if path in self._stages else {}
        return _over(files.get("params.yaml", {}), files.get("links.yaml", {}))

    def upstream(self, paths: list[str]) -> Iterator[str]:
        """Yield the outputs of data/ that these paths were made from, with themselves, each once."""
        left, seen = list(paths), set[str]()
        while left:
            path = left.pop()
            if path in seen:
                continue
            seen.add(path)
            yield path
            left += [file.path for file in self.inputs(path) if file.path.startswith("data/")]


def _over(own: dict[str, Any], inherited: dict[str, Any]) -> dict[str, Any]:
    """Merge nested settings; those of `own` win."""
    merged = dict(inherited)
    for key, value in own.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _over(value, merged[key]) if both else value
    return merged


def lineage(rung: str, lock: Lock) -> list[Step]:
    """Return the steps from the base to `rung`, parents before children. Errors: UserError for an unknown rung."""
    steps: dict[str, Step] = {}

    def visit(name: str) -> None:
        if name in steps:
            return
        step = _step(name, lock)
        for parent in step.parents:
            visit(parent)
        steps[name] = step

    visit(rung)
    return list(steps.values())


def _step(rung: str, lock: Lock) -> Step:
    folder = MODELS / rung
    path = folder.as_posix()
    data = tuple(file for file in lock.inputs(path) if file.path.startswith("data/"))
    stage = lock.maker(path)
    if (folder / "rung.json").is_file():
        here = read_description(folder)
        parents, settings = tuple(here.parents), here.settings
        return Step(
            rung, here.method, parents, data, settings, here.identity, lock.md5(path), here.quantization, here.kind
        )
    if stage is None:
        raise UserError(f"RUNG: {rung}: neither {folder}/rung.json nor an output in {LOCK}; `ladder table` lists rungs")
    settings = lock.settings(path)
    parents = tuple(
        file.path.removeprefix(f"{MODELS}/") for file in lock.inputs(path) if file.path.startswith(f"{MODELS}/")
    )
    base = settings.get("parent") != "base" and len(parents) > 1  # an adapter's stage also reads its base
    named = tuple(parent for parent in parents if parent != "base") if base else parents
    return Step(rung, stage.partition("@")[0], named, data, settings, None, lock.md5(path), None, None)
