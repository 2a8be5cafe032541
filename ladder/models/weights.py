"""Read and write model directories: errors name the broken file, and config.json is made to match the weights."""

import re
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from ladder.data.strict_json import parse_json
from ladder.models.untrusted_folder import library
from ladder.pipeline.stage import UserError

RESTORE = "`dvc checkout` or a new download restores it"
TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
"""Fields of generation_config.json that a rung keeps; params.yaml decides all others."""
PLAIN = {"output_attentions": False, "output_hidden_states": False, "use_cache": True, "_from_model_config": True}
"""Default fields that transformers writes from a model's config; with these values they have no effect."""
BUFFERS = re.compile(r"(rotary_emb\.inv_freq|attn\.(masked_)?bias)$")
"""Names of buffers that old checkpoints store as weights."""


def read_object(path: Path, where: str | None = None) -> dict[str, Any]:
    """Read a JSON object from a file of a model directory. Errors: UserError with the file's name."""
    where = where or str(path)
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{where}: no such file. {RESTORE}.") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{where}: not JSON ({' '.join(str(error).split())}). {RESTORE}.") from None
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected a JSON object, got {type(value).__name__}. {RESTORE}.")
    return value


def tensor_shapes(path: Path, where: str | None = None) -> dict[str, tuple[int, ...]]:
    """Read tensor names and shapes from the header of a safetensors file. Errors: UserError for a broken file."""
    try:
        with safe_open(path, "pt") as tensors:
            return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"{where or path}: no such file. {RESTORE}.") from None
    except (SafetensorError, OSError, ValueError) as error:
        said = " ".join(str(error).split())
        raise UserError(f"{where or path}: truncated or not a safetensors file ({said}). {RESTORE}.") from None


def check_files(directory: Path, where: str | None = None) -> dict[str, tuple[int, ...]]:
    """Check config.json, the shard index and the header of every weight file; return the shapes of all tensors.

    Errors: UserError with the file's name.
    """
    where = where or str(directory)
    read_config(directory, where)
    index = directory / "model.safetensors.index.json"
    if not index.is_file():
        return tensor_shapes(directory / "model.safetensors", f"{where}/model.safetensors")
    shapes: dict[str, tuple[int, ...]] = {}
    listed = read_object(index, f"{where}/{index.name}").get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
        raise UserError(f"{where}/{index.name}: expected weight_map with a file name for each tensor. {RESTORE}.")
    for shard in sorted(set(listed.values())):
        if Path(shard).name != shard:
            raise UserError(f"{where}/{index.name}: expected file names within the folder, got {shard!r}. {RESTORE}.")
        held = tensor_shapes(directory / shard, f"{where}/{shard}")
        shapes |= held
        absent = sorted(name for name, file in listed.items() if file == shard and name not in held)
        if absent:
            raise UserError(
                f"{where}/{shard}: no tensor {absent[0]}, which {index.name} lists for this file. {RESTORE}."
            )
    return shapes


def read_config(directory: Path, where: str | None = None) -> Any:
    """Read a model directory's configuration. Errors: UserError if config.json is broken or invalid for its type."""
    where = f"{where or directory}/config.json"
    read_object(directory / "config.json", where)
    with library(where, RESTORE):
        return AutoConfig.from_pretrained(directory, trust_remote_code=False)


def read_model(kind: Any, directory: Path, where: str | None = None, **arguments: Any) -> Any:
    """Call `kind.from_pretrained(directory, **arguments)` and check that it loaded every weight.

    transformers initializes a missing tensor randomly and ignores an unexpected one.
    Errors: UserError for missing tensors, unexpected layers, shapes that contradict config.json, and broken files.
    """
    where = where or str(directory)
    check_files(directory, where)
    if (directory / "generation_config.json").is_file():
        generation = read_object(directory / "generation_config.json", f"{where}/generation_config.json")
        if not _is_plain(generation):  # transformers reads a plain one correctly
            arguments["generation_config"] = token_ids_only(generation)
    with library(where, RESTORE):
        model, report = kind.from_pretrained(
            directory,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **arguments,
        )
    for name, stored, expected in sorted(report["mismatched_keys"]):
        raise UserError(
            f"{where}: {name}: expected shape {list(expected)} from config.json, got {list(stored)} in the weights. "
            "config.json belongs to another model."
        )
    if missing := sorted(report["missing_keys"]):
        raise UserError(f"{where}: {len(missing)} weights are missing from its files, first {missing[0]}")
    layered = [name for name in report["unexpected_keys"] if re.search(r"\.\d+\.", name) and not BUFFERS.search(name)]
    if layered:
        raise UserError(
            f"{where}: the weights have {min(layered)}, but the model of config.json has no such layer. "
            "config.json belongs to another model."
        )
    return model


def read_tokenizer(directory: Path, where: str | None = None) -> PreTrainedTokenizerBase:
    """Read the tokenizer of a model directory. Errors: UserError for a missing tokenizer or a broken file."""
    where = where or str(directory)
    check_json(directory, where)
    with library(f"{where}: its tokenizer", RESTORE):
        tokenizer: Any = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise UserError(f"{where}: no tokenizer; expected tokenizer.json or tokenizer.model")
    return tokenizer


def check_json(directory: Path, where: str) -> None:
    """Check that the tokenizer's files are JSON objects. Errors: UserError with the file's name."""
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
        if (directory / name).is_file():
            read_object(directory / name, f"{where}/{name}")


def read_adapter(model: Any, directory: Path, *, name: str = "default", trainable: bool = False) -> PeftModel:
    """Load the adapter in `directory` onto a model. Errors: UserError if files are broken or do not fit the model."""
    settings, weights = directory / "adapter_config.json", directory / "adapter_model.safetensors"
    read_object(settings)
    with library(str(settings), RESTORE):
        config = PeftConfig.from_pretrained(str(directory))
    held = tensor_shapes(weights)
    config.inference_mode = not trainable
    with library(str(weights), f"It is damaged or does not fit its base; {RESTORE}"):
        adapted = PeftModel.from_pretrained(model, directory, name, config=config, is_trainable=trainable)
    expected = get_peft_model_state_dict(adapted, adapter_name=name, save_embedding_layers=False).keys()
    if missing := sorted(expected - held.keys()):
        raise UserError(f"{weights}: no tensor {missing[0]}, which {settings.name} describes. {RESTORE}.")
    if extra := sorted(name for name in held.keys() - expected if "lora_" in name):
        raise UserError(f"{weights}: has a tensor {extra[0]} that {settings.name} does not describe. {RESTORE}.")
    return adapted


def read_generation(directory: Path) -> GenerationConfig:
    """Read generation_config.json, without the fields that control sampling.

    Errors: UserError when it is not JSON.
    """
    fields = read_object(directory / "generation_config.json", f"{directory}/generation_config.json")
    if not _is_plain(fields):
        return token_ids_only(fields)
    with library(f"{directory}/generation_config.json", RESTORE):
        return GenerationConfig.from_pretrained(directory)


def _is_plain(fields: dict[str, Any]) -> bool:
    """Whether the fields are only token ids and fields without effect."""
    others = {name: value for name, value in fields.items() if name not in (*TOKEN_IDS, "transformers_version")}
    return all(name in PLAIN and PLAIN[name] == value for name, value in others.items()) and all(
        type(token) is int and token >= 0
        for name in TOKEN_IDS
        if fields.get(name) is not None
        for token in (fields[name] if isinstance(fields[name], list) else [fields[name]])
    )


def token_ids_only(fields: dict[str, Any]) -> GenerationConfig:
    """Build a generation configuration from the token ids among `fields`: integers or lists of integers."""
    kept = {}
    for name in TOKEN_IDS:
        value = fields.get(name)
        values = value if isinstance(value, list) else [value]
        if values and all(type(token) is int and token >= 0 for token in values):
            kept[name] = value
    return GenerationConfig(**kept)


def clear_sampling(model: PreTrainedModel) -> None:
    """Keep only token ids in the model's generation configuration; transformers refuses to save some other values."""
    held = getattr(model, "generation_config", None)
    if held is not None and not _is_plain(held.to_diff_dict()):
        model.generation_config = token_ids_only({name: getattr(held, name, None) for name in TOKEN_IDS})


def declare(model: Any) -> None:
    """Make config.json match the weights: vocabulary size, and whether input and output embeddings are tied.

    Errors: UserError when the embedding and the output layer have different numbers of tokens.
    """
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None:
        return
    rows, tied = embedding.weight.shape[0], head.weight.data_ptr() == embedding.weight.data_ptr()
    if head.weight.shape[0] != rows:
        raise UserError(
            f"expected equal sizes of embedding and output layer, got {rows} and {head.weight.shape[0]} tokens"
        )
    for config in {id(each): each for each in (model.config, model.config.get_text_config())}.values():
        if getattr(config, "vocab_size", rows) != rows:
            config.vocab_size = rows
        if getattr(config, "tie_word_embeddings", tied) != tied:
            config.tie_word_embeddings = tied


def finite(model: torch.nn.Module) -> str | None:
    """Name of the first weight that contains NaN or infinity, else None."""
    return next((name for name, weight in model.named_parameters() if not torch.isfinite(weight).all()), None)
