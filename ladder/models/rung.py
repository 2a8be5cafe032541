"""rung.json: metadata of a rung, with its method, parents, settings and file hashes."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ladder.data.jsonl import read_json
from ladder.models.file_hashes import all_sha256, sha256
from ladder.pipeline.errors import expectation
from ladder.pipeline.stage import UserError


class File(BaseModel):
    """One file of a rung."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    sha256: str
    bytes: int


ENDPOINT_RECORD = "endpoint.json"
"""Address of a rung behind an endpoint (ladder/inference/endpoint_rung.py). It is not part of the rung's identity."""
FILES_RECORD = "files.json"
"""List of files with hashes, for a model without rung.json (a sentence encoder)."""
FileName = Annotated[str, Field(pattern=r"^[^/]+$")]


class Rung(BaseModel):
    """What rung.json holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rung: str
    """Name of the rung: `base`, `sft/chat`."""
    method: str
    """Stage that made the rung."""
    kind: Literal["complete", "adapter", "endpoint"]
    """A whole model, a LoRA adapter, or a model behind an endpoint, which has no weights here."""
    head: Literal["language_model", "reward"]
    """Output head: next-token logits, or one score for a whole conversation."""
    parents: dict[str, str]
    """Name and identity of every parent rung, including the teacher of a distillation."""
    base: str | None
    """Identity of the complete model that an adapter was trained on; None for a complete model."""
    quantization: dict[str, Any] | None = None
    """BitsAndBytesConfig arguments, if an adapter was trained on quantized base weights; it also runs on these."""
    tokenizer: str
    """sha256 of the tokenizer: vocabulary, merges, special tokens."""
    chat_template: str
    """sha256 of the chat template's text."""
    parameters: int
    """Total number of parameters, including the base's."""
    trainable_parameters: int
    """Number of parameters that the method trained; 0 if none."""
    settings: dict[str, Any]
    """Section of params.yaml that made the rung."""
    files: dict[FileName, File]
    """Size and hash of each file beside rung.json, by name."""

    @property
    def identity(self) -> str:
        """sha256 of all fields above, and thus of every byte of the rung, its parents and its base."""
        return hashlib.sha256(json.dumps(self.described(), sort_keys=True).encode()).hexdigest()

    @property
    def provenance(self) -> dict[str, Any]:
        """Name, identity, method, parents and size of the rung: no time or place, so equal rungs have equal ones."""
        return {
            "name": self.rung,
            "identity": self.identity,
            "method": self.method,
            "parent": " + ".join(self.parents),
            "parameters": self.parameters,
            "trainable_parameters": self.trainable_parameters,
        }

    def described(self) -> dict[str, Any]:
        """Content of rung.json; `quantization` is omitted if it is None."""
        return {name: value for name, value in self.model_dump().items() if (name, value) != ("quantization", None)}


def weightless(rung: str, method: str, settings: dict[str, Any]) -> Rung:
    """Build a rung without files: a model behind an endpoint, or the base of a ladder that only asks endpoints."""
    return Rung(
        rung=rung,
        method=method,
        kind="endpoint",
        head="language_model",
        parents={},
        base=None,
        tokenizer="",
        chat_template="",
        parameters=0,
        trainable_parameters=0,
        settings=settings,
        files={},
    )


def rung_name(output: Path, depth: int = 2) -> str:
    """Name of the rung in an output path: models/sft/chat is `sft/chat`."""
    return "/".join(output.parts[-depth:])


def read_rung(directory: Path, *, remember: bool = True) -> Rung:
    """Read rung.json and verify the SHA-256 of every listed file, so every way to load a rung is verified.

    A file that was verified before and has not changed since is not hashed again (ladder/models/file_hashes.py), unless
    `remember` is False. Errors: UserError for a missing, corrupt or unlisted file, with the command that fixes it.
    """
    rung = read_description(directory)
    if fault := next(rung_faults(directory, rung, remember=remember), None):
        raise UserError(fault)
    return rung


def read_description(directory: Path) -> Rung:
    """Read rung.json without verifying the files it lists.

    Errors: UserError when it is missing or not a rung's description.
    """
    path = directory / "rung.json"
    if not path.is_file():
        raise UserError(
            f"{directory}: not a rung (no rung.json). `dvc repro` makes it; `dvc checkout` restores it from the cache."
        )
    try:
        return Rung.model_validate(read_json(path))
    except ValidationError as error:
        raise UserError(
            f"{path}: invalid rung.json: {expectation(error.errors()[0]['msg'])}. Remake the rung."
        ) from None


def rung_faults(directory: Path, rung: Rung, *, remember: bool = True) -> Iterator[str]:
    """Yield a message for each file that does not match rung.json; see `file_faults`."""
    return file_faults(directory, rung.files, "rung.json", remember=remember)


def file_faults(directory: Path, files: dict[str, File], record: str, *, remember: bool = True) -> Iterator[str]:
    """Yield a message for each file that is missing, differs in size or hash from `record`, or is not listed there.

    An unlisted file could be loaded instead of a listed one: a shard index, a chat template, code.
    """
    restore = f"`dvc checkout {directory}` restores it"
    whole = []
    for name, file in files.items():
        part = directory / name
        if not part.is_file():
            yield f"{part}: no such file; expected it, because {record} lists it. {restore}."
        elif part.stat().st_size != file.bytes:
            yield (f"{part}: differs from {record}; expected {file.bytes} bytes, got {part.stat().st_size}. {restore}.")
        else:
            whole.append(name)
    hashes = all_sha256((directory / name for name in whole), remember=remember)
    for name in whole:
        expected, found = files[name].sha256, hashes[directory / name]
        if found != expected:
            yield (
                f"{directory / name}: corrupt; expected sha256 {expected} from {record}, got {found}. "
                f"`ladder doctor --fix` removes it (from a corrupt cache, too); then {restore}"
            )
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        name = path.relative_to(directory).as_posix()
        if name not in files and name not in (record, ENDPOINT_RECORD, "README.md") and not name.startswith("."):
            yield f"{path}: not listed in {record}; expected only the files listed there. Remove it, or {restore}."


def check_recorded(directory: Path) -> None:
    """Verify a model without rung.json by its files.json, if present. Errors: UserError as for `read_rung`."""
    record = directory / FILES_RECORD
    if not record.is_file():
        return
    try:
        files = TypeAdapter(dict[str, File]).validate_python(read_json(record))
    except ValidationError as error:
        raise UserError(
            f"{record}: not a list of files: {expectation(error.errors()[0]['msg'])}. `dvc repro` makes it again."
        ) from None
    if fault := next(file_faults(directory, files, FILES_RECORD), None):
        raise UserError(fault)


def describe_file(path: Path) -> File:
    """Compute size and SHA-256 of a file, as stored in rung.json."""
    return File(sha256=sha256(path, remember=False), bytes=path.stat().st_size)


def check_base(directory: Path, rung: Rung, base: Path) -> None:
    """Check that an adapter was trained on the model in `base`. Errors: UserError for another base."""
    given = read_rung(base)
    if rung.base != given.identity:
        raise UserError(
            f"{directory}: the adapter was trained on a different base than {base}; expected "
            f"{str(rung.base)[:12]}, got {given.identity[:12]}. `dvc repro` trains it again on this base."
        )


def check_parent(child: str, given: Rung, expected: str) -> None:
    """Check that data of `child` was made with the given model. Errors: UserError if the model has changed."""
    if given.identity != expected:
        raise UserError(
            f"{child}: made with another version of {given.rung}; expected {given.identity[:12]}, got "
            f"{expected[:12]}. `dvc repro` makes it again."
        )


def check_same_tokenizer(first: Rung, second: Rung) -> None:
    """Check that two rungs share tokenizer and chat template, without which logits and weights are not comparable.

    Errors: UserError.
    """
    if first.tokenizer != second.tokenizer:
        raise UserError(f"{first.rung} and {second.rung}: expected the same tokenizer. Both must come from one base.")
    if first.chat_template != second.chat_template:
        raise UserError(
            f"{first.rung} and {second.rung}: expected the same chat template. Both must come from one base."
        )
