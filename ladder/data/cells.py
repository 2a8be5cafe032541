"""Incremental output folders: a stage makes only those parts again whose inputs changed.

A cell is a named part of a stage's outputs, such as one benchmark of one rung. The index records for each cell what it
was made of and the SHA-256 of its files. The outputs are declared with `persist: true` in dvc.yaml, so DVC keeps them
when the stage starts. A cell is made again if its inputs differ from the record, or if its files do. The result has the
same bytes as a run from nothing.

The index is an output of its own, beside the folders: a cell that is made again with the same bytes changes no folder,
so the stages behind it do not run. It is written after each cell, so a killed run keeps its finished cells.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ladder.data.jsonl import read_bytes, write_json
from ladder.pipeline.errors import UserError


class Cell(BaseModel):
    """Record of one cell."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    made_of: dict[str, str]
    """Fingerprint of each input by its name: a hash, or the value itself."""
    files: dict[str, str]
    """SHA-256 of each file by its path, as given to `record`."""


_RECORDS = TypeAdapter(dict[str, Cell])


class Cells:
    """The cells of a stage's output folders.

    index: file of the records. folders: output folders that hold files of cells only.
    Errors: UserError for an index that is not one.
    """

    def __init__(self, index: Path, folders: Sequence[Path]) -> None:
        self._index, self._folders = index, folders
        self._records = _read(index) if index.exists() else {}
        self._current: set[str] = set()

    def outdated(self, name: str, made_of: Mapping[str, str], files: Iterable[Path]) -> str:
        """Return why a cell must be made: "new", or which inputs changed. Empty if it is current."""
        record = self._records.get(name)
        if record is None:
            return "new"
        known = record.made_of
        if changed := sorted(key for key in known.keys() | made_of.keys() if known.get(key) != made_of.get(key)):
            return f"{', '.join(changed)} changed"
        paths = list(files)
        if not all(path.is_file() for path in paths) or _hashes(paths) != record.files:
            return "its files are not those recorded"
        self._current.add(name)
        return ""

    def record(self, name: str, made_of: Mapping[str, str], files: Iterable[Path]) -> None:
        """Record a cell whose files are written."""
        self._records[name] = Cell(made_of=dict(made_of), files=_hashes(files))
        self._current.add(name)
        self._write()

    def forget(self, name: str) -> None:
        """Drop the record of a cell, before its files change."""
        if self._records.pop(name, None) is not None:
            self._write()

    def finish(self) -> None:
        """Remove the records and files of all cells that were neither current nor recorded in this run."""
        self._records = {name: cell for name, cell in self._records.items() if name in self._current}
        kept = {Path(file) for cell in self._records.values() for file in cell.files}
        for folder in self._folders:
            for path in sorted(folder.rglob("*"), reverse=True):  # files before their folder
                if path.is_dir() and not path.is_symlink():
                    if not any(path.iterdir()):
                        path.rmdir()
                elif path not in kept:
                    path.unlink()
            folder.mkdir(parents=True, exist_ok=True)
        self._write()

    def _write(self) -> None:
        write_json(self._index, {name: cell.model_dump() for name, cell in sorted(self._records.items())})


def _read(index: Path) -> dict[str, Cell]:
    try:
        return _RECORDS.validate_json(read_bytes(index))
    except ValidationError as error:
        raise UserError(
            f"{index}: not a record of cells: {error.errors()[0]['msg']}; expected as this stage writes it. Remove the "
            "file: everything is then made again"
        ) from None


def _hashes(files: Iterable[Path]) -> dict[str, str]:
    return {str(path): file_hash(path) for path in files}


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file. Errors: UserError if it cannot be read."""
    return text_hash(read_bytes(path))


def text_hash(content: bytes) -> str:
    """Return the SHA-256 of bytes in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def folder_hash(folder: Path) -> str:
    """Return a SHA-256 over the paths and contents of all files of a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return text_hash("".join(f"{path.relative_to(folder)} {file_hash(path)}\n" for path in files).encode())


def versions_of(*libraries: str) -> dict[str, str]:
    """Return the versions of libraries. "2.13.0+cpu" and "2.13.0+cu130" are one: another device makes nothing again."""
    return {library: version(library).partition("+")[0] for library in libraries}


def modules_hash(*lists: Path) -> str:
    """Return a SHA-256 over the modules of code lists (stages/code.py).

    A list also has the local files that its section of params.yaml names. They are left out, because a cell has its own
    files among its inputs.
    """
    lines = (line for path in lists for line in read_bytes(path).splitlines() if line.endswith(b".py"))
    return text_hash(b"\n".join(lines))
