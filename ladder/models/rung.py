"""rung.json: what a rung is, how it was made and the models it depends on."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ladder.models.file_hashes import all_sha256, sha256
from ladder.pipeline.stage import UserError


class File(BaseModel):
    """One file of a rung."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    sha256: str
    bytes: int


FILES_RECORD = "files.json"
"""What lists the files of a model that has no rung.json: a sentence encoder."""
FileName = Annotated[str, Field(pattern=r"^[^/]+$")]


class Rung(BaseModel):
    """What rung.json holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rung: str
    """Its name: `base`, `sft/chat`."""
    method: str
    """The stage that made it."""
    kind: Literal["complete", "adapter"]
    head: Literal["language_model", "reward"]
    """What it ends in: logits of the next token, or one number for a whole conversation."""
    parents: dict[str, str]
    """Name and identity of every rung it was made from, the teacher of a distillation included."""
    base: str | None
    """Identity of the complete model an adapter stands on; None for a complete one."""
    quantization: dict[str, Any] | None = None
    """BitsAndBytesConfig's arguments where an adapter was trained on the base's quantized weights, on which it runs."""
    tokenizer: str
    """sha256 of the tokenizer: vocabulary, merges, special tokens."""
    chat_template: str
    """sha256 of the chat template's text."""
    parameters: int
    """Parameters in all, the base's included."""
    trainable_parameters: int
    """Parameters that the method trained; 0 where it trained none."""
    settings: dict[str, Any]
    """The section of params.yaml that made it."""
    files: dict[FileName, File]
    """Name, size and hash of each file beside rung.json."""

    @property
    def identity(self) -> str:
        """sha256 over everything above, and so over every byte of the rung and of all it stands on."""
        return hashlib.sha256(json.dumps(self.described(), sort_keys=True).encode()).hexdigest()

    def described(self) -> dict[str, Any]:
        """What rung.json holds: `quantization` stands there only where there is one."""
        return {name: value for name, value in self.model_dump().items() if (name, value) != ("quantization", None)}


def rung_name(output: Path, depth: int = 2) -> str:
    """The rung that a path names: models/sft/chat is `sft/chat`."""
    return "/".join(output.parts[-depth:])


def read_rung(directory: Path, *, remember: bool = True) -> Rung:
    """Read rung.json and verify the SHA-256 of every file that it lists, so every way to load a rung is verified.

    A file that was verified before is not hashed again while it stays as it is (ladder/models/file_hashes.py); without
    `remember` it is. Errors: UserError for a file that is missing, corrupt or not listed, saying what to do.
    """
    rung = read_description(directory)
    if fault := next(rung_faults(directory, rung, remember=remember), None):
        raise UserError(fault)
    return rung


def read_description(directory: Path) -> Rung:
    """rung.json alone; its files are not looked at.

    Errors: UserError when it is missing or not a rung's description.
    """
    path = directory / "rung.json"
    if not path.is_file():
        raise UserError(f"{directory}: not a rung (no rung.json); `dvc repro` makes it, `dvc checkout` restores it")
    try:
        return Rung.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UserError(f"{path}: not a rung's description: {error.errors()[0]['msg']}; make the rung again") from None


def rung_faults(directory: Path, rung: Rung, *, remember: bool = True) -> Iterator[str]:
    """A sentence for each file that is not as rung.json says; see `file_faults`."""
    return file_faults(directory, rung.files, "rung.json", remember=remember)


def file_faults(directory: Path, files: dict[str, File], record: str, *, remember: bool = True) -> Iterator[str]:
    """A sentence for each file that is missing, has another size or hash than `record` says, or is not listed there.

    An unlisted file could be read in place of a listed one: an index of shards, a chat template, code.
    """
    restore = f"`dvc checkout {directory}` restores it"
    whole = []
    for name, file in files.items():
        part = directory / name
        if not part.is_file():
            yield f"{part}: no such file, and {record} lists it; {restore}"
        elif part.stat().st_size != file.bytes:
            yield (
                f"{part}: not the file that {record} describes; expected {file.bytes} bytes, "
                f"got {part.stat().st_size}; {restore}"
            )
        else:
            whole.append(name)
    hashes = all_sha256((directory / name for name in whole), remember=remember)
    for name in whole:
        expected, found = files[name].sha256, hashes[directory / name]
        if found != expected:
            yield (
                f"{directory / name}: corrupt; expected sha256 {expected} by {record}, got {found}. "
                f"`python -m ladder doctor --fix` removes it (from a corrupt cache, too); then {restore}"
            )
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        name = path.relative_to(directory).as_posix()
        if name not in files and name not in (record, "README.md") and not name.startswith("."):
            yield f"{path}: not listed in {record}; expected only the files listed there. Remove it, or {restore}"


def check_recorded(directory: Path) -> None:
    """Verify a model without rung.json by its files.json, where it has one. Errors: UserError as `read_rung` does."""
    record = directory / FILES_RECORD
    if not record.is_file():
        return
    try:
        files = TypeAdapter(dict[str, File]).validate_json(record.read_bytes())
    except ValidationError as error:
        raise UserError(
            f"{record}: not a list of files: {error.errors()[0]['msg']}; `dvc repro` makes it again"
        ) from None
    if fault := next(file_faults(directory, files, FILES_RECORD), None):
        raise UserError(fault)


def describe_file(path: Path) -> File:
    """Size and SHA-256 of a file, as rung.json records them."""
    return File(sha256=sha256(path, remember=False), bytes=path.stat().st_size)


def check_stands_on(directory: Path, rung: Rung, base: Path) -> None:
    """Refuse an adapter whose base is not the model in `base`."""
    given = read_rung(base)
    if rung.base != given.identity:
        raise UserError(
            f"{directory}: this adapter stands on another base than {base} (it wants {str(rung.base)[:12]}, "
            f"{base} is {given.identity[:12]}); `dvc repro` trains it again on this one"
        )


def check_parent(child: str, given: Rung, expected: str) -> None:
    """Refuse data that `child` made with another model than the one it is used with now."""
    if given.identity != expected:
        raise UserError(
            f"{child}: made with another model than {given.rung} as it is now "
            f"({expected[:12]} against {given.identity[:12]}); `dvc repro` makes it again"
        )


def check_same_tokenizer(first: Rung, second: Rung) -> None:
    """Refuse two rungs whose tokens or chat templates differ: their logits and weights do not mean the same."""
    if first.tokenizer != second.tokenizer:
        raise UserError(f"{first.rung} and {second.rung} have different tokenizers; both must come from one base")
    if first.chat_template != second.chat_template:
        raise UserError(f"{first.rung} and {second.rung} have different chat templates; both must use one")
