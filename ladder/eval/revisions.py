"""Read the rows of scores of a revision, located by the hashes in its dvc.lock, without a checkout.

A revision is a git revision (commit, tag, branch) or the name of a DVC experiment; the workspace is the current state
of the files. Rows come from DVC's cache or its current remote, also for revisions from before the remote existed.
"""

import hashlib
import itertools
import subprocess
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc_data.index import DataIndexDirError
from ruamel.yaml import YAML

from ladder.data.jsonl import Row, parse_row, read_json, read_rows
from ladder.pipeline.seeds import MARK
from ladder.pipeline.stage import UserError, read_yaml

LOCK = "dvc.lock"
WORKSPACE = "workspace"
BENCHMARK, LM_EVAL, HELDOUT = "data/benchmark", "data/lm_eval", "data/heldout"
"""Output folders of the stages that measure rungs: one folder, one file per task and rung, one folder per rung."""
ANSWER = "data/answer"
"""Folder of the answers by rung that `benchmark` scores."""

GONE = (FileNotFoundError, DataIndexDirError)
"""What DVC raises for a file that neither cache nor remote has, and for a folder without its listing."""


class Missing(UserError):
    """A file of rows that was not recorded, or that DVC cannot provide."""


class Cell(NamedTuple):
    """One rung's rows of scores on one benchmark."""

    kind: str
    """Stage that measured: `benchmark`, `lm_eval` or `heldout`."""
    name: str
    """Entry: `ifeval`, `problems/maths`."""
    rung: str
    path: str

    @property
    def title(self) -> str:
        """Name for users: `ifeval`, `heldout/problems/maths`."""
        return f"{self.kind}/{self.name}" if self.kind == "heldout" else self.name

    @property
    def summary(self) -> str:
        """Path of the summary, which records the measures of a benchmark's score."""
        return self.path.removesuffix("l")


class Revision:
    """A revision. name: a git revision or an experiment; None for the workspace. Errors: UserError if it is unknown."""

    def __init__(self, name: str | None) -> None:
        self.label = name or WORKSPACE
        try:
            with Repo() as repo:
                config = {part: dict(repo.config[part]) for part in ("core", "remote")}
            self._files = DVCFileSystem(rev=name, config=config)
            # An unknown revision raises here at the latest.
            self.commit = str(self._files.repo.get_rev()) if name else None
        except DvcException as error:
            raise UserError(f"{self.label}: {' '.join(str(error).split())}") from None

    @cached_property
    def _stages(self) -> dict[str, Any]:
        if self.commit is None:
            return dict(read_yaml(Path(LOCK))["stages"])
        try:
            text = self._files.read_text(LOCK)
        except FileNotFoundError:
            raise UserError(f"{self.label}: no {LOCK}, so nothing was recorded there") from None
        return dict(YAML(typ="safe", pure=True).load(text)["stages"])

    @cached_property
    def _recorded(self) -> dict[str, str]:
        outs = [out for stage in self._stages.values() for out in stage.get("outs", [])]
        return {out["path"]: out["md5"] for out in outs if "md5" in out}

    @cached_property
    def cells(self) -> dict[tuple[str, str], Cell]:
        """All recorded cells by title and rung, in the order of dvc.lock."""
        found = [cell for stage in self._stages.values() for cell in _cells(stage)]
        return {(cell.title, cell.rung): cell for cell in found}

    def settings(self, cell: Cell) -> dict[str, Any]:
        """Return {params key: value} of the settings behind a cell's scores, from dvc.lock: generation and scoring.

        The number of prompts and of bootstrap resamples change no prompt's own score, so they are left out.
        """
        found: dict[str, Any] = {}
        for stage in self._stages.values():
            answered = f"{ANSWER}/{cell.rung}" in _outs(stage) and cell.kind == "benchmark"
            if answered or cell in _cells(stage):
                for key, value in _params(stage).items():
                    if key == f"{cell.kind}.{cell.name}":
                        found[key] = value
                    elif isinstance(value, dict) and cell.name in value:
                        found[f"{key}.{cell.name}"] = value[cell.name]
        return {key: value for key, value in _flat(found) if key.rsplit(".", 1)[-1] not in ("rows", "resamples")}

    def md5(self, path: str) -> str | None:
        """Return the md5 of a file: of the current file in the workspace, else as recorded.

        None if it is not recorded, or if DVC has neither the file nor the listing of its folder.
        """
        if self.commit is None and Path(path).is_file():
            return hashlib.md5(Path(path).read_bytes()).hexdigest()
        try:
            return self._md5_recorded(path) if self._is_recorded(path) else None
        except (*GONE, KeyError):
            return None

    def _md5_recorded(self, path: str) -> str:
        return self._recorded[path] if path in self._recorded else str(self._files.info(path)["dvc_info"]["md5"])

    def _is_recorded(self, path: str) -> bool:
        return any(folder in self._recorded for folder in (path, *map(str, PurePosixPath(path).parents)))

    def same_folder(self, path: str, other: "Revision") -> bool:
        """Whether both recorded the same hash of the file or of a folder around it, which neither has in a cache."""
        mine, theirs = (one._recorded_around(path) for one in (self, other))
        return mine is not None and mine == theirs

    def _recorded_around(self, path: str) -> tuple[str, str] | None:
        """Return (path, md5) of the recorded output that holds a file; None if a file in the workspace may differ."""
        found = next((each for each in (path, *map(str, PurePosixPath(path).parents)) if each in self._recorded), None)
        if found is None or self.commit is None and Path(found).exists():
            return None
        return found, self._recorded[found]

    def text(self, path: str) -> str | None:
        """Return the text of a file that git keeps; None if the revision does not have it."""
        if self.commit is None:
            return Path(path).read_text(encoding="utf-8") if Path(path).is_file() else None
        command = ["git", "show", f"{self.commit}:./{path}"]
        done = subprocess.run(command, capture_output=True, check=False)
        return done.stdout.decode("utf-8") if done.returncode == 0 else None

    def rows(self, path: str) -> list[Row]:
        """Read a recorded file's rows; an empty list when nothing could be scored.

        Errors: Missing if it was not recorded, or neither cache nor remote has it.
        """
        if self.commit is None and Path(path).is_file():
            return read_rows(Path(path)) if Path(path).stat().st_size else []
        lines = enumerate(self._content(path).splitlines(), start=1)
        return [parse_row(line, f"{path}:{number}") for number, line in lines]

    def document(self, path: str) -> Row:
        """Read a recorded file with one JSON object. Errors: Missing if it is not recorded or not available."""
        if self.commit is None and Path(path).is_file():
            return read_json(Path(path))
        return parse_row(self._content(path), path)

    def _content(self, path: str) -> bytes:
        if not self._is_recorded(path):
            raise Missing(f"{path}: not recorded at {self.label}")
        try:
            content = self._files.read_bytes(path)
        except GONE:
            way = "dvc pull" if self.commit is None else "dvc fetch --all-commits"
            raise Missing(
                f"{path} at {self.label}: neither in DVC's cache nor in its remote. `dvc push --all-commits` where it "
                f"was made, then `{way}` here."
            ) from None
        if hashlib.md5(content).hexdigest() != self._md5_recorded(path):
            raise UserError(f"{path} at {self.label}: DVC's copy differs from {LOCK}. `dvc fetch` it again.")
        return bytes(content)


def _flat(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(values, dict):
        yield prefix, values
        return
    for key, value in values.items():
        yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))


def _outs(stage: dict[str, Any]) -> list[str]:
    return [out["path"] for out in stage.get("outs", [])]


def _params(stage: dict[str, Any]) -> dict[str, Any]:
    """Return {tracked key: value} of an entry of dvc.lock."""
    return {key: value for file in stage.get("params", {}).values() for key, value in file.items()}


def _cells(stage: dict[str, Any]) -> Iterator[Cell]:
    """Iterate over the cells of an entry of dvc.lock, except those of replicas with other seeds."""
    return (cell for cell in _all_cells(stage) if MARK not in cell.rung)


def _all_cells(stage: dict[str, Any]) -> Iterator[Cell]:
    """Iterate over the cells of an entry of dvc.lock.

    Names and rungs may contain slashes; the tracked parameters tell them apart.
    """
    params = _params(stage)
    for path in _outs(stage):
        if path == BENCHMARK:
            for name, rung in itertools.product(params.get("report.benchmarks", []), params.get("report.rungs", [])):
                yield Cell("benchmark", name, rung, f"{path}/{name}/{rung}.jsonl")
        elif path.startswith(f"{HELDOUT}/"):
            for name in params.get("heldout", {}):
                yield Cell("heldout", name, path.removeprefix(f"{HELDOUT}/"), f"{path}/{name}.jsonl")
        elif path.startswith(f"{LM_EVAL}/") and path.endswith(".jsonl"):
            task = next((key.removeprefix("lm_eval.") for key in params if key.startswith("lm_eval.")), "")
            yield Cell("lm_eval", task, path.removeprefix(f"{LM_EVAL}/{task}/").removesuffix(".jsonl"), path)
