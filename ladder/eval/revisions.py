"""What a revision measured: its rows of scores, found by the hashes that its dvc.lock recorded. Nothing is checked out.

A revision is git's (commit, tag, branch) or a DVC experiment's name; the workspace is what lies here now. Rows come
from DVC's cache, or from the remote of today, also for revisions from before there was one.
"""

import hashlib
import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.repo import Repo
from ruamel.yaml import YAML

from ladder.data.jsonl import Row, read_json, read_rows
from ladder.pipeline.stage import UserError, read_yaml

LOCK = "dvc.lock"
WORKSPACE = "workspace"
KINDS = ("benchmark", "heldout")


class Missing(UserError):
    """A file of rows that was recorded, or should have been, and that DVC cannot give."""


class Cell(NamedTuple):
    """One rung's rows of scores on one benchmark: data/<kind>/<name>/<rung>.jsonl."""

    kind: str
    """`benchmark` or `heldout`."""
    name: str
    """The entry: `ifeval`, `problems/maths`."""
    rung: str
    path: str

    @property
    def title(self) -> str:
        """How a user names it: `ifeval`, `heldout/problems/maths`."""
        return self.name if self.kind == "benchmark" else f"{self.kind}/{self.name}"

    @property
    def summary(self) -> str:
        """The file that says what the score of a benchmark is made of."""
        return self.path.removesuffix("l")


class Revision:
    """name: a git revision or an experiment; None for the workspace. Errors: UserError if there is no such thing."""

    def __init__(self, name: str | None) -> None:
        self.label = name or WORKSPACE
        try:
            with Repo() as repo:
                config = {part: dict(repo.config[part]) for part in ("core", "remote")}
            self._files = DVCFileSystem(rev=name, config=config)
            # At the latest here a revision that does not exist is found out.
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
        """All that were recorded, by title and rung, in the order of dvc.lock."""
        found = {}
        for stage in self._stages.values():
            params = {key for section in stage.get("params", {}).values() for key in section}
            for out in stage.get("outs", []):
                if (cell := _cell(out["path"], params)) is not None:
                    found[cell.title, cell.rung] = cell
        return found

    def settings(self, cell: Cell) -> dict[str, Any]:
        """{params key: value} of what made a cell's scores, as dvc.lock recorded it: how answers were drawn and judged.

        How many prompts were asked, and how often they are resampled, changes no prompt's own score: left out.
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
        """The hash of a file of rows; of what lies here, in the workspace. None where none was recorded."""
        if self.commit is None and Path(path).is_file():
            return hashlib.md5(Path(path).read_bytes()).hexdigest()
        return self._recorded.get(path)

    def rows(self, path: str) -> list[Row]:
        """A recorded file's rows, none where nothing could be scored. Errors: Missing if it was not recorded, or
        neither cache nor remote has it."""
        if self.commit is None and Path(path).is_file():
            return read_rows(Path(path)) if Path(path).stat().st_size else []
        return [json.loads(line) for line in self._content(path).splitlines()]

    def document(self, path: str) -> Row:
        """A recorded file of one JSON object. Errors: as `rows`."""
        if self.commit is None and Path(path).is_file():
            return read_json(Path(path))
        return dict(json.loads(self._content(path)))

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
    """Entries and rungs both may have slashes in their names; the params that the stage tracks tell them apart."""
    parts = PurePosixPath(path).parts
    if len(parts) < 4 or parts[0] != "data" or parts[1] not in KINDS or not path.endswith(".jsonl"):
        return None
    kind = parts[1]
    tracked = [key.removeprefix(f"{kind}.") for key in params if key.startswith(f"{kind}.")]
    name = next((name for name in tracked if path.startswith(f"data/{kind}/{name}/")), parts[2])
    return Cell(kind, name, path.removeprefix(f"data/{kind}/{name}/").removesuffix(".jsonl"), path)
