"""Read a model's config.json from a name, a folder, a .gguf file, the hub's cache, or the base of params.yaml."""

from pathlib import Path
from typing import Any

from ladder.data.jsonl import read_json
from ladder.pipeline.errors import UserError
from ladder.plan.published import find, named


class UnknownConfigError(UserError):
    """The configuration of a model is not on this machine, and is not built in."""


GGUF_KEYS = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "expert_count": "num_local_experts",
    "expert_used_count": "num_experts_per_tok",
}
GGUF_KINDS = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma2": "gemma2", "gemma3": "gemma3_text"} | {
    kind: kind for kind in ("gemma", "phi3", "smollm3")
}
"""GGUF's general.architecture, and the model_type of transformers with the same layers."""


def read_config(source: str) -> tuple[dict[str, Any], str]:
    """Return (configuration, where it is from) of a model.

    `source` is a folder of hub layout, a config.json, a .gguf file, `hub:org/name@commit`, `wheel:…/NAME.gguf`, or a
    built-in name. A hub or wheel source is looked for in the caches and then among the built-in names; nothing is
    downloaded. Errors: UserError.
    """
    path = Path(source)
    if path.is_dir():
        return _from_folder(path), f"{path / 'config.json'}"
    if path.is_file():
        return (_from_gguf(path) if path.suffix == ".gguf" else _read(path)), str(path)
    if source.startswith("hub:"):
        return _from_hub(source)
    if not source.startswith("wheel:"):
        model = named(source)
        return model.config, f"built in, from {model.repository}"
    name = Path(source).name
    held = find(name.removesuffix(".gguf").rsplit(".", 1)[0] if name.endswith(".gguf") else name)
    if held is None:
        raise UnknownConfigError(f"{source}: no built-in configuration has this name; it is known after `base` has run")
    return held.config, f"built in, from {held.repository}"


def _read(path: Path) -> dict[str, Any]:
    found = read_json(path)
    if not isinstance(found.get("model_type"), str):
        raise UserError(f"{path}: model_type: missing; expected a model's config.json")
    return found


def _from_folder(folder: Path) -> dict[str, Any]:
    if (folder / "config.json").is_file():
        return _read(folder / "config.json")
    if (folder / "adapter_config.json").is_file():
        raise UserError(f"{folder}: an adapter; expected a complete model with config.json. Name its base")
    raise UserError(f"{folder}: no config.json in it; expected a complete Hugging Face model")


def _from_hub(source: str) -> tuple[dict[str, Any], str]:
    """Read config.json from the hub's cache, else a built-in configuration."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    repository, _, commit = source.removeprefix("hub:").partition("@")
    try:
        cached = try_to_load_from_cache(repository, "config.json", revision=commit or None)
    except HFValidationError as error:
        raise UserError(f"{source}: not a repository's name: {error}; expected hub:ORG/NAME@COMMIT") from None
    if isinstance(cached, str):
        return _read(Path(cached)), cached
    if model := find(repository):
        return model.config, f"built in, from {model.repository}"
    raise UnknownConfigError(
        f"{source}: config.json is not in the hub's cache, and no built-in configuration has this name; expected one "
        f"of them. Run `hf download {repository} config.json`"
    )


def _from_gguf(path: Path) -> dict[str, Any]:
    """Read the configuration in the header of a GGUF file; its weights are mapped, not read."""
    from gguf import GGUFReader

    try:
        reader = GGUFReader(str(path))
    except (ValueError, OSError, IndexError, KeyError) as error:
        raise UserError(f"{path}: not a GGUF file: {error}; expected llama.cpp's format") from None
    kind = _field(reader, "general.architecture")
    if kind not in GGUF_KINDS:
        raise UserError(f"{path}: general.architecture: expected one of {', '.join(GGUF_KINDS)}, got {kind!r}")
    given = {new: _field(reader, f"{kind}.{old}") for old, new in GGUF_KEYS.items()}
    shapes = {tensor.name: [int(size) for size in tensor.shape] for tensor in reader.tensors}
    if "token_embd.weight" not in shapes:
        raise UserError(f"{path}: no tensor token_embd.weight; expected a language model")
    return {
        **{key: int(value) for key, value in given.items() if value is not None},
        "model_type": GGUF_KINDS[kind],
        "vocab_size": shapes["token_embd.weight"][1],
        "tie_word_embeddings": "output.weight" not in shapes,
    }


def _field(reader: Any, key: str) -> Any:
    field = reader.get_field(key)
    return None if field is None else field.contents()
