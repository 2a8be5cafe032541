"""Model setup for training: load the parent, add or continue an adapter, and select trainable weights."""

import copy
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from transformers import set_seed

from ladder.models.checkpoint import Model, Rung, check_base, described, load, load_complete, quantized, read_rung
from ladder.models.compute_dtype import compute_dtype
from ladder.models.config_passthrough import Adapter, build
from ladder.models.dora import factor_dora
from ladder.models.fused_lora import fuse_adapters
from ladder.models.lora_settings import adapted, fit_head
from ladder.models.weights import read_adapter
from ladder.pipeline.stage import UserError
from ladder.training.dry_run import check_router, rehearse_adapter

Quantization = dict[str, Any] | None
STARTS = (True, False, "gaussian", "orthogonal")
"""Values of peft's init_lora_weights that do not change the base weights."""


@dataclass(frozen=True)
class TrainingSetup:
    """A model prepared for training, with its parent and the base of its adapter."""

    start: Model
    parent: Rung
    base: Rung | None
    """Complete model that the saved adapter applies to; None if the result is a complete rung."""
    quantization: Quantization = None
    """Quantization of the base weights under the saved adapter."""
    dtype: torch.dtype = torch.bfloat16
    """dtype of the base, in which a complete rung is saved."""

    @property
    def trainable_parameters(self) -> int:
        """Number of weights that require gradients."""
        return sum(weight.numel() for weight in self.start.model.parameters() if weight.requires_grad)


def climb(
    parent: Path,
    base: Path,
    lora: Adapter,
    *,
    seed: int,
    quantization: Quantization = None,
    router: float | None = None,
    fused: bool = True,
) -> TrainingSetup:
    """Load the parent and make the weights trainable that `lora` selects.

    A dict adds a new adapter to the parent, `continue` trains the parent's own adapter, and None trains all weights (in
    float32, under bf16 autocast where the base is in bfloat16). Saved adapters always apply to `base`. A new adapter on
    any other parent is merged into the weights on saving, and the rung is complete.

    `router` is the trainer's router_aux_loss_coef. `fused` means that the trainer multiplies by the output layer's
    weight and skips its forward, as most TRL trainers do (ladder/models/lora_settings.py refuses layers that would then
    stay untrained).

    With `quantization` the base under the adapter is quantized during training (QLoRA, Dettmers et al. 2023). The rung
    then runs on the same quantized base weights, and so does an adapter that continues from it. peft's
    prepare_model_for_kbit_training is not used: beyond what peft and TRL do, it only adds a float32 copy of embeddings,
    head and norms. That takes 2 GB more at 8B and brings no benefit under autocast.

    Errors: UserError for `continue` without a parent adapter, for a quantized base without an adapter, and for settings
    that the dry run refuses.
    """
    rung, ground, dtype = read_rung(parent), read_rung(base), compute_dtype(base)
    set_seed(seed)
    if lora == "continue" and rung.kind != "adapter":
        raise UserError(
            f"lora: continue needs an adapter, but the parent {rung.rung} is complete. Give lora: {{r: 16}} or null."
        )
    complete = parent if rung.kind == "complete" else base
    check_router(complete, router)
    if isinstance(lora, dict):
        _check_start(lora, ground if rung.identity == ground.identity else None)
        rehearse_adapter(complete, lora, task="CAUSAL_LM", fused=fused)
    if quantization is not None:
        return TrainingSetup(
            _on_quantized(parent, base, lora, quantization, fused=fused), rung, ground, quantization, dtype
        )
    if lora == "continue":
        going_on = load(parent, base, trainable=True)
        fit_head(going_on.model, fused=fused)
        _fuse(going_on.model)
        return TrainingSetup(going_on, rung, ground, rung.quantization, dtype)
    whole = load_complete(parent, base, dtype=torch.float32 if lora is None else dtype)
    if lora is None:
        whole.model.requires_grad_(True)
        return TrainingSetup(whole, rung, None, dtype=dtype)
    below = ground if rung.identity == ground.identity else None
    return TrainingSetup(
        Model(_adapted(whole.model, lora, fused=fused), whole.tokenizer, rung), rung, below, dtype=dtype
    )


def _check_start(lora: dict[str, Any], below: Rung | None) -> None:
    start = lora.get("init_lora_weights", True)
    if below is not None and start not in STARTS:
        raise UserError(
            f"lora.init_lora_weights: expected one of {', '.join(map(str, STARTS))}, got {start!r}, which changes the "
            f"weights below the adapter; at inference the adapter runs on the unchanged {below.rung}"
        )


def _adapted(model: Any, lora: dict[str, Any], *, fused: bool = True) -> PeftModel:
    config = build(LoraConfig, {"target_modules": "all-linear", **copy.deepcopy(lora)}, task_type="CAUSAL_LM")
    made = adapted(model, config, fused=fused)
    factor_dora(made, new=True)
    _fuse(made)
    return made


def _fuse(model: Any) -> None:
    """Fuse the adapters' products on a GPU, except under FSDP, whose sharded weights have their own forward."""
    if torch.cuda.is_available() and os.environ.get("ACCELERATE_USE_FSDP") != "true":
        fuse_adapters(model)


def _on_quantized(parent: Path, base: Path, lora: Adapter, quantization: dict[str, Any], *, fused: bool) -> Model:
    (rung, tokenizer), ground = described(parent, "language_model"), read_rung(base)
    if lora is None:
        raise UserError("quantization: quantized weights have no gradient. Give lora: {r: 16}, or quantization: null.")
    if lora != "continue" and rung.identity != ground.identity:
        raise UserError(
            f"quantization: a new adapter on quantized weights must start from {ground.rung}, got the parent "
            f"{rung.rung}. Give lora: continue, parent: {ground.rung}, or quantization: null."
        )
    if lora == "continue":
        check_base(parent, rung, base)
    model = quantized(base, quantization)
    if lora != "continue":
        return Model(_adapted(model, lora, fused=fused), tokenizer, rung)
    going_on = read_adapter(model, parent, trainable=True)
    factor_dora(going_on, new=False)
    fit_head(going_on, fused=fused)
    return Model(going_on, tokenizer, rung)
