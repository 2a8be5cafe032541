"""The base model and the rows of a new project, as the options of `ladder init` give them."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ladder.data.atomic_write import replacing
from ladder.pipeline.errors import UserError
from ladder.pipeline.local_files import RAW
from ladder.pipeline.param_checks import PLACEHOLDER

FORMATS = "JSON Lines (.jsonl), JSON, CSV or Parquet"


@dataclass(frozen=True)
class Data:
    """A user's file, and its place in data/raw."""

    file: Path
    place: Path

    @property
    def is_placed(self) -> bool:
        """Whether the place holds these bytes already."""
        return self.place.is_file() and (
            self.place.samefile(self.file) or self.place.read_bytes() == self.file.read_bytes()
        )

    def copy(self) -> None:
        """Copy the file to its place."""
        with replacing(self.place) as temporary:
            shutil.copyfile(self.file, temporary)


def base_of(own: Any, base: str, recipe: Path) -> dict[str, Any]:
    """Return the changed keys of the section `base`; empty if the recipe's own base is used.

    A chat template that the recipe names is dropped with the model that it belongs to. Errors: UserError for a source
    that is not in the syntax of sources, a wheel, and a recipe whose own base is a placeholder.
    """
    from ladder.data.download import parse

    section = own.get("base") if isinstance(own, dict) else None
    named = str(section.get("source", "")) if isinstance(section, dict) else ""
    if not base:
        if PLACEHOLDER.search(named):
            raise UserError(
                f"--base: missing; expected a base model, because {recipe} names none: hub:org/name@commit. "
                "`git ls-remote https://huggingface.co/org/name HEAD` prints the commit"
            )
        return {}
    try:
        found = parse(base)
    except UserError as refusal:
        raise UserError(f"--base: {refusal}") from None
    if found.kind == "wheel":
        raise UserError(
            f"--base: {base}: a wheel, which needs a sha256; expected hub:org/name@commit or a path in {RAW}. "
            "Write base.source and base.sha256 into params.yaml after `ladder init`"
        )
    changed = {"source": base, "sha256": None}
    if found.name not in named:
        changed["chat_template"] = None
    return {"base": {key: value for key, value in changed.items() if value is not None or key in (section or {})}}


def data_of(own: Any, file: Path | None, recipe: Path) -> tuple[Data | None, dict[str, Any]]:
    """Return the file to copy, and the changed keys of the section `source`.

    Errors: UserError for a missing or unreadable file, a place in data/raw that is taken, a recipe that reads no file
    of the user, and one that needs a file.
    """
    sources = own.get("source") if isinstance(own, dict) else None
    entries = sources if isinstance(sources, dict) else {}
    open_ones = [name for name, entry in entries.items() if PLACEHOLDER.search(str(entry.get("source", "")))]
    if file is None:
        if open_ones:
            raise UserError(
                f"--data: missing; expected a file of your rows ({FORMATS}), which {recipe} reads as "
                f"source.{open_ones[0]}. docs/data-formats.md lists the columns that are known"
            )
        return None, {}
    if not open_ones:
        raise UserError(f"--data: {recipe} reads no file of yours; expected no --data. See docs/own-data.md")
    check_rows(file)
    place = RAW / file.name
    if RAW.resolve() in file.resolve().parents:
        place = RAW / file.resolve().relative_to(RAW.resolve())
    found = Data(file, place)
    if place.exists() and not found.is_placed:
        raise UserError(f"--data: {place} exists and is another file; expected a free name. Rename {file}")
    return found, {"source": {open_ones[0]: {"source": place.relative_to(RAW).as_posix()}}}


def check_rows(file: Path) -> None:
    """Check that a file has a name of a known format, and that its first row can be read. Errors: UserError."""
    from ladder.data.readers import records

    if file.is_dir():
        raise UserError(f"--data: {file}: a folder; expected a file ({FORMATS})")
    if not file.is_file():
        raise UserError(f"--data: {file}: no such file; expected {FORMATS}")
    try:
        first = next(iter(records(file, str(file))), None)
    except UserError as refusal:
        raise UserError(f"--data: {refusal}") from None
    if first is None:
        raise UserError(f"--data: {file}: no rows; expected {FORMATS}")
    if first.row is None:
        raise UserError(f"--data: {file}:{first.line}: {first.fault}; expected {FORMATS}, one object a row")
