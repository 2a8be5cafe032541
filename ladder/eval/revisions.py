"""Read the rows of scores of a revision, located by the hashes in its dvc.lock, without a checkout.

A revision is a git revision (commit, tag, branch) or the name of a DVC experiment; the workspace is the current state
of the files. Rows come from DVC's cache or its current remote, also for revisions from before the remote existed.
"""

import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.repo import Repo
from ruamel.yaml import YAML

from ladder.data.jsonl import Row, parse_row, read_json, read_rows
from ladder.pipeline.stage import UserError, read_yaml

LOCK = "dvc.lock"
WORKSPACE = "workspace"
KINDS = ("benchmark", "heldout")


class Missing(UserError):
    """A file of rows that was not recorded, or that DVC cannot provide."""


class Cell(NamedTuple):
    """One rung's rows of scores on one benchmark: data/<kind>/<name>/<rung>.jsonl."""

    kind: str
    """`benchmark` or `heldout`."""
    name: str
    """Entry: `ifeval`, `problems/maths`."""
    rung: str
    path: str

    @property
    def title(self) -> str:
        """Name for users: `ifeval`, `heldout/problems/maths`."""
        return self.name if self.kind == "benchmark" else f"{self.kind}/{self.name}"

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
            raise UserError(f"{self.label}: it has no {LOCK}: nothing was recorded there") from None
        return dict(YAML(typ="safe", pure=True).load(text)["stages"])

    @cached_property
    def _recorded(self) -> dict[str, str]:
        outs = [out for stage in self._stages.values() for out in stage.get("outs", [])]
        return {out["path"]: out["md5"] for out in outs if "md5" in out}

    @cached_property
    def cells(self) -> dict[tuple[str, str], Cell]:
        """All recorded cells by title and rung, in the order of dvc.lock."""
        found = {}
        for stage in self._stages.values():
            params = {key for section in stage.get("params", {}).values() for key in section}
            for out in stage.get("outs", []):
                if (cell := _cell(out["path"], params)) is not None:
                    found[cell.title, cell.rung] = cell
        return found

    def settings(self, cell: Cell) -> dict[str, Any]:
        """Return {params key: value} of the settings behind a cell's scores, from dvc.lock: generation and scoring.

        The number of prompts and of bootstrap resamples change no prompt's own score, so they are left out.
        """
        found: dict[str, Any] = {}
        for stage in self._stages.values():
            outs = {out["path"] for out in stage.get("outs", [])}
            sections = [section for section in stage.get("params", {}).values() if isinstance(section, dict)]
            if cell.path in outs:
                found |= {key: value for section in sections for key, value in section.items()}
            elif f"data/respond/{cell.rung}" in outs and cell.kind == "benchmark":
                asked = [section["respond"].get(cell.name) for section in sections if "respond" in section]
                found |= {f"respond.{cell.name}": one for one in asked}
        return {key: value for key, value in _flat(found) if key.rsplit(".", 1)[-1] not in ("rows", "resamples")}

    def md5(self, path: str) -> str | None:
        """Return the md5 of a file: of the current file in the workspace, else as recorded; None if not recorded."""
        if self.commit is None and Path(path).is_file():
            return hashlib.md5(Path(path).read_bytes()).hexdigest()
        return self._recorded.get(path)

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
        if path not in self._recorded:
            raise Missing(f"{path}: not recorded at {self.label}")
        try:
            content = self._files.read_bytes(path)
        except FileNotFoundError:
            way = "dvc pull" if self.commit is None else "dvc fetch --all-commits"
            raise Missing(
                f"{path} at {self.label}: neither in DVC's cache nor in its remote; `dvc push --all-commits` where it "
                f"was made, then `{way}` here"
            ) from None
        if hashlib.md5(content).hexdigest() != self._recorded[path]:
            raise UserError(f"{path} at {self.label}: DVC's copy is not what {LOCK} recorded; `dvc fetch` it anew")
        return bytes(content)


def _flat(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(values, dict):
        yield prefix, values
        return
    for key, value in values.items():
        yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))


def _cell(path: str, params: set[str]) -> Cell | None:
    """Parse the path of a cell. Entries and rungs may contain slashes; the stage's tracked params separate them."""
    parts = PurePosixPath(path).parts
    if len(parts) < 4 or parts[0] != "data" or parts[1] not in KINDS or not path.endswith(".jsonl"):
        return None
    kind = parts[1]
    tracked = [key.removeprefix(f"{kind}.") for key in params if key.startswith(f"{kind}.")]
    name = next((name for name in tracked if path.startswith(f"data/{kind}/{name}/")), parts[2])
    return Cell(kind, name, path.removeprefix(f"data/{kind}/{name}/").removesuffix(".jsonl"), path)
