"""Load and save rungs: directories with a model's weights, its tokenizer and rung.json.

A rung is either complete (a Hugging Face model) or a LoRA adapter for the complete base. rung.json names the parents
and the base by identity: the sha256 of their own rung.json, which lists the sha256 of every file. So a load can verify
that it was given the model that the rung was made from.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.utils.logging import disable_progress_bar

from ladder.chat.encode import template_hash, tokenizer_hash
from ladder.data.atomic_write import published
from ladder.data.jsonl import read_json, write_json
from ladder.models.compute_dtype import compute_dtype
from ladder.models.config_passthrough import build
from ladder.models.dora import factor_dora
from ladder.models.heads import Score, scoring
from ladder.models.rung import (
    File,
    Rung,
    check_base,
    check_parent,
    check_same_tokenizer,
    describe_file,
    read_rung,
    rung_name,
)
from ladder.models.tied_embeddings import merged
from ladder.models.weights import clear_sampling, declare, finite, read_adapter, read_model, read_tokenizer
from ladder.pipeline.disk import check_space
from ladder.pipeline.stage import UserError

__all__ = [
    "SHARD", "File", "Model", "Rung", "attention", "check_parent", "check_same_tokenizer", "check_base",
    "described", "device", "device_name", "ledger", "load", "load_complete", "load_reward", "quantized", "read_rung",
    "rounded", "rung_name", "save_rung",
]  # fmt: skip

disable_progress_bar()  # of weight loading: it finishes before it can be read

_HEADS = {"language_model": "a language model", "reward": "a reward model, which scores answers and writes none"}
SHARD = "2GB"  # DVC hashes one file on one core, so one large file would hash slowly


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


def device() -> torch.device:
    """First CUDA device if available, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name() -> str:
    """Name of the first CUDA device if available, else `cpu`."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def load(directory: Path, base: Path, *, dtype: torch.dtype | None = None, trainable: bool = False) -> Model:
    """Load a rung, complete or adapter, onto the device. Without `dtype` it is loaded in the dtype of its base.

    An adapter is loaded on the complete model in `base`. An adapter trained with QLoRA is loaded on the base's weights
    as quantization rounded them; on the unrounded weights it would be a different model. With `trainable` the adapter's
    weights take gradients (in float32).
    Errors: UserError for a reward model; for an adapter of another base; for a tokenizer or chat template that differs
    from rung.json.
    """
    rung, tokenizer = described(directory, "language_model")
    dtype = dtype or compute_dtype(base)
    if rung.kind == "complete":
        return Model(_complete(directory, dtype), tokenizer, rung)
    check_base(directory, rung, base)
    whole = _complete(base, dtype) if rung.quantization is None else rounded(base, rung.quantization).to(dtype)
    model = read_adapter(whole, directory, trainable=trainable)
    factor_dora(model, new=False)
    return Model(model, tokenizer, rung)


def load_complete(directory: Path, base: Path, *, dtype: torch.dtype | None = None) -> Model:
    """Load a rung as one complete model. An adapter is merged into the base (ladder/models/tied_embeddings.py).

    Errors: UserError as for `load`.
    """
    loaded = load(directory, base, dtype=dtype)
    if isinstance(loaded.model, PeftModel):
        return Model(merged(loaded.model), loaded.tokenizer, loaded.rung)
    return loaded


def load_reward(directory: Path, base: Path, *, dtype: torch.dtype | None = None) -> Model:
    """Load a reward model, complete or adapter; ladder.models.scoring.rewards computes its scores.

    Errors: UserError for a language model, and as for `load`.
    """
    rung, tokenizer = described(directory, "reward")
    dtype = dtype or compute_dtype(base)
    if rung.kind == "complete":
        model: Any = read_model(AutoModelForSequenceClassification, directory, dtype=dtype)
        model.score = Score(model.score.weight)
        return Model(model.to(device()).eval(), tokenizer, rung)
    check_base(directory, rung, base)
    whole = scoring(_complete(base, dtype), tokenizer)
    return Model(read_adapter(whole, directory).eval(), tokenizer, rung)


def described(directory: Path, head: str) -> tuple[Rung, PreTrainedTokenizerBase]:
    """Load rung.json and tokenizer. Errors: UserError if the head is not `head`, or rung.json describes another one."""
    rung = read_rung(directory)
    if rung.kind == "endpoint":
        why = "it is a model behind an endpoint" if rung.method == "endpoint" else "base.source is null"
        raise UserError(f"{directory}: expected {_HEADS[head]} with weights, got none: {why}")
    if rung.head != head:
        raise UserError(f"{directory}: expected {_HEADS[head]}, got {_HEADS[rung.head]}")
    tokenizer = read_tokenizer(directory)
    if tokenizer_hash(tokenizer) != rung.tokenizer or template_hash(tokenizer) != rung.chat_template:
        raise UserError(
            f"{directory}: the tokenizer or chat template differs from the hashes in rung.json. Remake the rung."
        )
    return rung, tokenizer


def _complete(directory: Path, dtype: torch.dtype) -> Any:
    model: Any = read_model(AutoModelForCausalLM, directory, dtype=dtype, attn_implementation=attention())
    return model.to(device())


def attention() -> str:
    """Value of attn_implementation. On a CPU, the backward pass of "sdpa" is 15% slower on short rows than "eager"."""
    return "sdpa" if torch.cuda.is_available() else "eager"


def quantized(base: Path, quantization: dict[str, Any]) -> Any:
    """Load the complete model with quantized weights; `quantization` holds BitsAndBytesConfig's arguments."""
    return read_model(
        AutoModelForCausalLM,
        base,
        dtype=torch.bfloat16,
        attn_implementation=attention(),
        quantization_config=build(BitsAndBytesConfig, quantization),
        device_map={"": torch.cuda.current_device() if torch.cuda.is_available() else "cpu"},
    )


def rounded(base: Path, quantization: dict[str, Any]) -> Any:
    """Load the complete model in bfloat16 with quantized and de-quantized weights (bitsandbytes' own rounding)."""
    return quantized(base, quantization).dequantize()


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
    """Write a rung: weights (safetensors), tokenizer and rung.json. A final rename makes it complete or absent.

    `base` is the complete model of an adapter, None for a complete model. `quantization` holds BitsAndBytesConfig's
    arguments if the adapter was trained on quantized base weights. Weights keep their dtype; complete rungs from
    training are in the dtype of their base (ladder/training/train.py). config.json describes the actual weights
    (`declare`). generation_config.json holds only token ids: the other fields are a release's sampling defaults, which
    params.yaml decides here. The same model gives the same bytes. Errors: UserError when a weight is not finite.
    """
    if name := finite(model):
        raise UserError(f"{directory}: not saved: {name} has NaN or infinite values. Lower the learning rate.")
    saved = (weight.nbytes for weight in model.parameters() if base is None or weight.requires_grad)
    check_space(directory, sum(saved), "the rung")
    tokenizer.init_kwargs.pop("local_files_only", None)  # HF_HUB_OFFLINE sets it, which would change the saved bytes
    with published(directory) as temporary:
        if base is None:
            declare(_bare(model))
            clear_sampling(_bare(model))
            model.save_pretrained(str(temporary), max_shard_size=SHARD)
        else:  # the base is pinned by its identity, so its embeddings are not copied
            model.save_pretrained(str(temporary), save_embedding_layers=False)
            _sort_lists(temporary / "adapter_config.json")
        tokenizer.save_pretrained(temporary)
        (temporary / "README.md").unlink(missing_ok=True)
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
            parameters=_bare(model).num_parameters(),  # counts each 4-bit weight as one
            trainable_parameters=trainable_parameters,
            settings=settings or {},
            files={path.name: describe_file(path) for path in sorted(temporary.iterdir())},
        )
        write_json(temporary / "rung.json", made.described())
    return made


def _bare(model: PreTrainedModel | PeftModel) -> Any:
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _sort_lists(path: Path) -> None:
    """Sort lists in a JSON file: peft keeps target_modules as a set, whose order varies between processes."""
    config = read_json(path)
    lists = {key: sorted(value) for key, value in config.items() if isinstance(value, list)}
    write_json(path, dict(sorted({**config, **lists}.items())))


def ledger(metrics: Path, rung: Rung, seconds: float, measured: dict[str, Any]) -> None:
    """Write metrics/<rung>.json: the measured values, then training cost and device."""
    write_json(
        metrics,
        {
            **measured,
            "seconds": round(seconds, 1),
            "trainable_parameters": rung.trainable_parameters,
            "parameters": rung.parameters,
            "method": rung.method,
            "parent": " + ".join(rung.parents),
            "device": device_name(),
        },
    )
