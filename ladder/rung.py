"""rung.json: what a rung is, how it was made and the models it depends on."""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ladder.run import Refused


class File(BaseModel):
    """One file of a rung."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    sha256: str
    bytes: int


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
    files: dict[str, File]

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


def read_rung(directory: Path) -> Rung:
    """Read rung.json and check that its files are there. Errors: Refused, saying what to do."""
    path = directory / "rung.json"
    if not path.is_file():
        raise Refused(f"{directory}: not a rung (no rung.json); `dvc repro` makes it, `dvc checkout` restores it")
    try:
        rung = Rung.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise Refused(f"{path}: not a rung's description: {error.errors()[0]['msg']}; make the rung again") from None
    for name, file in rung.files.items():
        part = directory / name
        if not part.is_file() or part.stat().st_size != file.bytes:
            raise Refused(f"{part}: not the file that rung.json describes; `dvc checkout {directory}` restores it")
    return rung


def check_stands_on(directory: Path, rung: Rung, base: Path) -> None:
    """Refuse an adapter whose base is not the model in `base`."""
    given = read_rung(base)
    if rung.base != given.identity:
        raise Refused(
            f"{directory}: this adapter stands on another base than {base} (it wants {str(rung.base)[:12]}, "
            f"{base} is {given.identity[:12]}); `dvc repro` trains it again on this one"
        )


def check_parent(child: str, given: Rung, expected: str) -> None:
    """Refuse data that `child` made with another model than the one it is used with now."""
    if given.identity != expected:
        raise Refused(
            f"{child}: made with another model than {given.rung} as it is now "
            f"({expected[:12]} against {given.identity[:12]}); `dvc repro` makes it again"
        )


def check_same_tokenizer(first: Rung, second: Rung) -> None:
    """Refuse two rungs whose tokens or chat templates differ: their logits and weights do not mean the same."""
    if first.tokenizer != second.tokenizer:
        raise Refused(f"{first.rung} and {second.rung} have different tokenizers; both must come from one base")
    if first.chat_template != second.chat_template:
        raise Refused(f"{first.rung} and {second.rung} have different chat templates; both must use one")
