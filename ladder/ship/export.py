"""Export a rung as a folder that other programs load: merged weights, a peft adapter, or a GGUF file.

A merged folder has the rung's own numbers: an adapter that was trained with QLoRA is added to the base's weights as
quantization rounded them (ladder/models/checkpoint.py). After writing, the folder is loaded as any program would load
it, and its answers are compared with those of the rung (ladder/ship/agreement.py).
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ladder.data.atomic_write import published
from ladder.data.jsonl import read_json, write_json
from ladder.models.rung import Rung, describe_file, read_description, read_rung
from ladder.pipeline.disk import check_space
from ladder.pipeline.errors import UserError
from ladder.ship.hub_names import HubName, hub_base
from ladder.ship.model_card import card
from ladder.ship.rung_folder import BASE, rung_folder

Form = Literal["merged", "adapter", "gguf"]
RECORD = "export.json"
"""Description of an exported folder: rung, form, files with hashes. It marks a folder that --force may replace."""
WEIGHTS = ("adapter_config.json", "adapter_model.safetensors", "rung.json")
"""Files of an adapter rung that a merged folder does not have."""
SHARD = "5GB"
BYTES = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 1.0625}
"""Bytes of a weight by GGUF type."""


@dataclass(frozen=True)
class Exported:
    """An exported folder."""

    rung: Rung
    form: Form
    base: dict[str, Any]
    """Base of an adapter: its identity, source and the address in adapter_config.json; empty for other forms."""
    gguf_type: str | None = None
    files: dict[str, int] = field(default_factory=dict)
    """Size of each file in bytes, by name."""
    agreement: dict[str, Any] | None = None
    """Comparison with the rung (ladder/ship/agreement.py); None if the files are copies, or with --no-verify."""

    def document(self) -> dict[str, Any]:
        """Return the export for --json."""
        return {**asdict(self), "rung": {"name": self.rung.rung, "identity": self.rung.identity}}


def export(
    name: str,
    to: Path,
    form: Form = "merged",
    *,
    gguf_type: str = "f16",
    base_model: str | None = None,
    force: bool = False,
    license: str | None = None,
    verify: bool = True,
) -> Exported:
    """Write the rung `name` to the folder `to`, complete or not at all.

    gguf_type: type of matrices in a GGUF file. base_model: address of an adapter's base for its users, ORG/NAME@COMMIT
    or a path. force: replace an earlier export. license: license in the header of the card. verify: load the result and
    compare it with the rung.
    Errors: UserError for a folder that has content, a rung without this form, and a disk without room.
    """
    folder = rung_folder(name)
    rung = read_rung(folder)
    _check_form(folder, rung, form, base_model)
    _check_target(to, force=force)
    needed = _bytes(folder, rung, form, gguf_type)
    check_space(to, needed, "the export")
    with _replacing(to) as temporary:
        temporary.mkdir()
        base = _base(rung, base_model) if form == "adapter" else {}
        agreement = _write(folder, rung, temporary, form, gguf_type, base, verify=verify)
        made = Exported(rung, form, base, gguf_type if form == "gguf" else None, agreement=agreement)
        (temporary / "README.md").write_text(card(rung.rung, made, license=license), encoding="utf-8")
        files = {path.name: describe_file(path) for path in sorted(temporary.iterdir())}
        record = {**made.document(), "files": {file: one.model_dump() for file, one in files.items()}}
        write_json(temporary / RECORD, record)
        made.files.update({path.name: path.stat().st_size for path in sorted(temporary.iterdir())})
    return made


def _check_form(folder: Path, rung: Rung, form: Form, base_model: str | None) -> None:
    if rung.kind == "endpoint":
        raise UserError(f"RUNG: {folder} is a model behind an endpoint; expected a rung with weights")
    if form == "adapter" and rung.kind != "adapter":
        raise UserError(f"--as: {folder} is a complete model, so it has no adapter; expected merged or gguf")
    if form != "adapter" and rung.kind == "adapter" and rung.head == "reward":
        raise UserError(f"--as: {folder} is the adapter of a reward model; expected adapter, got {form}")
    if form == "gguf" and rung.head == "reward":
        raise UserError(f"--as: {folder} is a reward model; expected merged or adapter, got gguf")
    if base_model and form != "adapter":
        raise UserError(f"--base-model: names the base of an adapter; expected --as adapter, got {form}")


def _check_target(to: Path, *, force: bool) -> None:
    """Refuse a file and a folder with content. With `force`, refuse only content that no export wrote."""
    if to.is_symlink() or (to.exists() and not to.is_dir()):
        raise UserError(f"--to: {to} is a {'link' if to.is_symlink() else 'file'}; expected a folder")
    content = sorted(path.name for path in to.iterdir()) if to.exists() else []
    if not content:
        return
    if not force:
        raise UserError(
            f"--to: {to} has content ({content[0]}); expected a new or empty folder. Use another, or --force."
        )
    own = {*read_json(to / RECORD)["files"], RECORD} if (to / RECORD).is_file() else set()
    if other := [file for file in content if file not in own]:
        raise UserError(
            f"--force: {to}/{other[0]} is not of an earlier export; expected a folder that `ladder export` wrote"
        )


@contextmanager
def _replacing(to: Path) -> Iterator[Path]:
    """Publish a folder under its absolute path; `.` and `..` have no name to write beside."""
    with published(to.absolute() if to.name not in ("", "..") else to.resolve()) as temporary:
        yield temporary


def _bytes(folder: Path, rung: Rung, form: Form, gguf_type: str) -> int:
    """Estimate the bytes of the export from the files of the rung and its base."""
    own = sum(file.bytes for file in rung.files.values())
    if form == "adapter" or rung.kind == "complete" and form == "merged":
        return own
    whole = folder if rung.kind == "complete" else BASE
    stored = sum(path.stat().st_size for path in whole.glob("*.safetensors"))
    if form == "merged":
        return stored
    return int(read_description(whole).parameters * BYTES[gguf_type])


def _write(
    folder: Path, rung: Rung, to: Path, form: Form, gguf_type: str, base: dict[str, Any], *, verify: bool
) -> dict[str, Any] | None:
    """Write the files of the rung in a form; return the comparison with the rung, None without one."""
    if form == "adapter":
        _copy(folder, rung, to, leave=())
        config = read_json(to / "adapter_config.json")
        write_json(
            to / "adapter_config.json",
            {**config, "base_model_name_or_path": base["address"], "revision": base["revision"]},
        )
        return None
    if form == "merged" and rung.kind == "complete":
        _copy(folder, rung, to, leave=())
        if rung.head == "language_model":
            _set_stop(to)
        return None
    from ladder.models.checkpoint import load
    from ladder.models.tied_embeddings import merged
    from ladder.ship import agreement

    loaded = load(folder, BASE)
    answers = agreement.answer(loaded.model, loaded.tokenizer) if verify else []
    model: Any = merged(loaded.model) if rung.kind == "adapter" else loaded.model
    kept = {name for name in rung.files if "token" in name or name.endswith((".jinja", ".model"))}
    if form == "merged":
        _copy(folder, rung, to, leave=rung.files.keys() - kept)
        model.save_pretrained(str(to), max_shard_size=SHARD)
        _set_stop(to)
    else:
        from ladder.ship.gguf_file import write_gguf

        write_gguf(
            to / f"{rung.rung.replace('/', '-')}-{gguf_type}.gguf", model, loaded.tokenizer, rung.rung, gguf_type
        )
    stop, dtype = loaded.stop, model.dtype
    del loaded, model  # one copy of the weights at a time
    return agreement.compare(answers, stop, *agreement.opened(to, dtype)) if verify else None


def _copy(folder: Path, rung: Rung, to: Path, *, leave: Any) -> None:
    for name in rung.files:
        if name not in leave:
            shutil.copyfile(folder / name, to / name)


def _set_stop(to: Path) -> None:
    """Write the tokenizer's stop token into generation_config.json, which `generate` and vLLM read."""
    from ladder.models.weights import read_generation, read_tokenizer

    tokenizer: Any = read_tokenizer(to)
    path = to / "generation_config.json"
    generation = read_generation(to) if path.is_file() else None
    held = generation.eos_token_id if generation is not None else None
    if tokenizer.eos_token_id not in (held if isinstance(held, list) else [held]):
        from transformers import GenerationConfig

        generation = generation or GenerationConfig()
        generation.eos_token_id = tokenizer.eos_token_id
        generation.pad_token_id = tokenizer.pad_token_id
        generation.save_pretrained(to)


def _base(rung: Rung, base_model: str | None) -> dict[str, Any]:
    """Describe the base that an adapter belongs to, and the address that its users load it from."""
    base = read_rung(BASE)
    if rung.base != base.identity:
        raise UserError(
            f"{rung.rung}: the adapter was trained on another version of {BASE}; expected {str(rung.base)[:12]}, got "
            f"{base.identity[:12]}. `dvc repro` trains it again on this base."
        )
    given = HubName.parsed(base_model) if base_model else hub_base(base.settings.get("source"))
    return {
        "identity": base.identity,
        "source": base.settings.get("source"),
        "address": given.name if given else BASE.as_posix(),
        "revision": given.revision if given else None,
    }


def sentence(found: dict[str, Any]) -> str:
    """Describe a comparison in one sentence."""
    same = found["tokens"] == found["equal_tokens"] and found["equal_prompts"] in (None, found["prompts"])
    return (
        f"{'verified' if same else 'differs'}: {found['equal_tokens']} of {found['tokens']} greedy tokens equal the "
        f"rung's on {found['prompts']} prompts; largest difference of a logit {found['largest_logit_difference']:.2g}"
    )
