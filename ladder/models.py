"""A model is a directory: its weights, its tokenizer and rung.json, which says what it is and stands on.

A rung is either complete (a Hugging Face model) or a LoRA adapter that stands on the complete base. rung.json
names the parents and the base by identity (the sha256 of their own rung.json, which lists the sha256 of every
file), so a child can tell whether the model it is given is the one it was made from.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel
from pydantic import BaseModel, ConfigDict, ValidationError
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.utils.logging import disable_progress_bar

from ladder.adapters import factor_dora
from ladder.arguments import build
from ladder.chat import template_hash, tokenizer_hash
from ladder.heads import Score, scoring
from ladder.rows import write_json
from ladder.run import Refused

disable_progress_bar()  # of loading weights: shorter than it takes to read

_HEADS = {"language_model": "a language model", "reward": "a reward model, which scores answers and writes none"}
SHARD = "2GB"  # DVC hashes one file on one core, so one large file would hash slowly


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


@dataclass(frozen=True)
class Model:
    """A loaded rung."""

    model: Any
    """A PreTrainedModel, or a PeftModel around one."""
    tokenizer: PreTrainedTokenizerBase
    rung: Rung

    @property
    def stop(self) -> int:
        """The token that ends an assistant's turn."""
        return self.tokenizer.eos_token_id


def rung_name(output: Path, depth: int = 2) -> str:
    """The rung that a path names: models/sft/chat is `sft/chat`."""
    return "/".join(output.parts[-depth:])


def device() -> torch.device:
    """The first CUDA device where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


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


def load(directory: Path, base: Path, *, dtype: torch.dtype = torch.bfloat16, trainable: bool = False) -> Model:
    """Load a rung, complete or adapter, onto the device.

    An adapter is put on the complete model in `base`: on its weights as quantization rounded them where it was
    trained on those (QLoRA), since on the unrounded ones it is another model than the one that was trained.
    With `trainable` its weights take gradients (in float32).
    Errors: Refused for a reward model, and for an adapter of another base, tokenizer or chat template than those given.
    """
    rung, tokenizer = described(directory, "language_model")
    if rung.kind == "complete":
        return Model(_complete(directory, dtype), tokenizer, rung)
    check_stands_on(directory, rung, base)
    whole = _complete(base, dtype) if rung.quantization is None else rounded(base, rung.quantization).to(dtype)
    model = PeftModel.from_pretrained(whole, directory, is_trainable=trainable)
    factor_dora(model, new=False)
    return Model(model, tokenizer, rung)


def load_complete(directory: Path, base: Path, *, dtype: torch.dtype = torch.bfloat16) -> Model:
    """Load a rung as one complete model: an adapter's weights are added to the base's."""
    loaded = load(directory, base, dtype=dtype)
    if isinstance(loaded.model, PeftModel):
        return Model(loaded.model.merge_and_unload(), loaded.tokenizer, loaded.rung)
    return loaded


def load_reward(directory: Path, base: Path, *, dtype: torch.dtype = torch.bfloat16) -> Model:
    """Load a reward model, complete or adapter; ladder.rewarding.rewards reads its numbers.

    Errors: Refused for a language model, and as `load` does.
    """
    rung, tokenizer = described(directory, "reward")
    if rung.kind == "complete":
        model: Any = AutoModelForSequenceClassification.from_pretrained(directory, dtype=dtype)
        model.score = Score(model.score.weight)
        return Model(model.to(device()).eval(), tokenizer, rung)
    check_stands_on(directory, rung, base)
    whole = scoring(_complete(base, dtype), tokenizer)
    return Model(PeftModel.from_pretrained(whole, directory).eval(), tokenizer, rung)


def described(directory: Path, head: str) -> tuple[Rung, PreTrainedTokenizerBase]:
    """A rung without its weights. Errors: Refused for another head, tokenizer or chat template than are described."""
    rung = read_rung(directory)
    if rung.head != head:
        raise Refused(f"{directory}: {_HEADS[rung.head]}, expected {_HEADS[head]}")
    tokenizer = AutoTokenizer.from_pretrained(directory)
    if tokenizer_hash(tokenizer) != rung.tokenizer or template_hash(tokenizer) != rung.chat_template:
        raise Refused(f"{directory}: tokenizer or chat template is not the one in rung.json; make the rung again")
    return rung, tokenizer


def _complete(directory: Path, dtype: torch.dtype) -> Any:
    model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, attn_implementation=attention())
    return model.to(device())


def attention() -> str:
    """transformers' attn_implementation: on a CPU the fused one's backward pass is 15% slower on short rows."""
    return "sdpa" if torch.cuda.is_available() else "eager"


def quantized(base: Path, quantization: dict[str, Any]) -> Any:
    """The complete model with quantized weights: `quantization` is BitsAndBytesConfig's arguments."""
    return AutoModelForCausalLM.from_pretrained(
        base,
        dtype=torch.bfloat16,
        attn_implementation=attention(),
        quantization_config=build(BitsAndBytesConfig, quantization),
        device_map={"": torch.cuda.current_device() if torch.cuda.is_available() else "cpu"},
    )


def rounded(base: Path, quantization: dict[str, Any]) -> Any:
    """The complete model in bfloat16, each weight as quantization rounded it: bitsandbytes' own, de-quantized."""
    return quantized(base, quantization).dequantize()


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


def save_rung(
    directory: Path,
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    rung: str,
    method: str,
    parents: dict[str, Rung] | None = None,
    base: Rung | None = None,
    quantization: dict[str, Any] | None = None,
    trainable_parameters: int = 0,
    settings: dict[str, Any] | None = None,
) -> Rung:
    """Write a rung: weights (safetensors), tokenizer, rung.json; published by rename, so it is whole or absent.

    `base` is the complete model that an adapter stands on, None for a complete model; `quantization` what rounded the
    base's weights while it was trained. Weights keep the dtype they
    are given in: complete rungs of a training come in bfloat16 (ladder/training.py).
    The same model gives the same bytes. Errors: Refused when a weight is not finite.
    """
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise Refused(f"{directory}: {name} holds NaN or infinity; not saved (lower the learning rate)")
    tokenizer.init_kwargs.pop("local_files_only", None)  # HF_HUB_OFFLINE would otherwise change the saved bytes
    temporary = directory.with_name(f".{directory.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    model.save_pretrained(str(temporary), max_shard_size=SHARD)
    tokenizer.save_pretrained(temporary)
    (temporary / "README.md").unlink(missing_ok=True)
    if base is not None:
        _sort_lists(temporary / "adapter_config.json")
    made = Rung(
        rung=rung,
        method=method,
        kind="complete" if base is None else "adapter",
        head="reward" if isinstance(_bare(model), GenericForSequenceClassification) else "language_model",
        parents={name: parent.identity for name, parent in (parents or {}).items()},
        base=base.identity if base else None,
        quantization=quantization,
        tokenizer=tokenizer_hash(tokenizer),
        chat_template=template_hash(tokenizer),
        parameters=_bare(model).num_parameters(),  # which counts a 4-bit weight as one
        trainable_parameters=trainable_parameters,
        settings=settings or {},
        files={path.name: _file(path) for path in sorted(temporary.iterdir())},
    )
    write_json(temporary / "rung.json", made.described())
    shutil.rmtree(directory, ignore_errors=True)
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary.rename(directory)
    return made


def _bare(model: PreTrainedModel | PeftModel) -> Any:
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _file(path: Path) -> File:
    with path.open("rb") as stream:
        return File(sha256=hashlib.file_digest(stream, "sha256").hexdigest(), bytes=path.stat().st_size)


def _sort_lists(path: Path) -> None:
    """peft keeps target_modules as a set, whose order changes from process to process."""
    config = json.loads(path.read_text())
    lists = {key: sorted(value) for key, value in config.items() if isinstance(value, list)}
    write_json(path, dict(sorted({**config, **lists}.items())))


def ledger(metrics: Path, rung: Rung, seconds: float, measured: dict[str, Any]) -> None:
    """Write metrics/<rung>.json: what was measured, then what it cost and where it ran."""
    write_json(
        metrics,
        {
            **measured,
            "seconds": round(seconds, 1),
            "trainable_parameters": rung.trainable_parameters,
            "parameters": rung.parameters,
            "method": rung.method,
            "parent": " + ".join(rung.parents),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        },
    )
