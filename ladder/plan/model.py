"""Plan for one model: memory by part for each method, and the trainable parameters of LoRA ranks."""

from dataclasses import dataclass
from typing import Any

from ladder.plan.adapters import EXPERTS, adapter
from ladder.plan.compute import Time, training_flops, training_time
from ladder.plan.memory import METHODS, Memory, Method, Step, cache_bytes, memory
from ladder.plan.weights import Weight, by_part, completed, parameters, text_config, weights

RANKS = (4, 8, 16, 32, 64, 128, 256)
TARGETS: dict[str, tuple[str, ...] | str] = {
    "query and value": ("q_proj", "v_proj"),
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "all linear layers": "all-linear",
}
FUSED: dict[str, tuple[str, ...]] = {"query and value": ("qkv_proj",), "attention": ("qkv_proj", "o_proj")}
"""Targets of families that fuse the projections (Phi-3)."""


@dataclass(frozen=True)
class MethodPlan:
    """Costs of training by one method."""

    method: Method
    trainable: int
    memory: Memory
    flops_per_token: float
    time: Time | None
    """Time of `tokens`; None if no number of tokens was given."""


@dataclass(frozen=True)
class ModelPlan:
    """Plan for one model."""

    name: str
    origin: str
    """Where the configuration is from."""
    parameters: int
    parts: dict[str, int]
    step: Step
    rank: int
    tokens: int | None
    gpu: str
    methods: tuple[MethodPlan, ...]
    ranks: dict[str, dict[int, int]]
    """Trainable parameters by targets and rank."""
    cache_per_token: float
    """Bytes of the key-value cache of one token of the first row, before any window is full."""


def plan_model(
    config: dict[str, Any],
    *,
    name: str = "model",
    origin: str = "",
    methods: tuple[Method, ...] = METHODS,
    lora: dict[str, Any] | None = None,
    step: Step | None = None,
    tokens: int | None = None,
    gpu: str = "h200",
    context: float = 750,
) -> ModelPlan:
    """Return the plan for a model from its config.json.

    `lora` are settings of peft's LoraConfig (r 16 on all linear layers by default), `step` the micro-batch (8 rows of
    512 tokens by default), `tokens` the training's tokens, `context` the mean length of a token's row.
    Errors: UserError for a configuration or settings that do not fit.
    """
    settings, step = {"r": 16, **(lora or {})}, step or Step(tokens=4096)
    found, kind = weights(config), text_config(config).get("model_type")
    planned = []
    for method in methods:
        if method == "dora" and len(methods) > 1 and kind in EXPERTS:
            continue  # peft adapts stacked experts without DoRA
        made = None if method == "full" else adapter(found, {**settings, "use_dora": method == "dora"}, kind)
        one = Step(**{**vars(step), "method": method})
        flops = training_flops(config, found, made, context, checkpointing=step.checkpointing)
        count = float(parameters(found))
        time = training_time(flops * tokens, count, method, gpu, packed=step.packed) if tokens else None
        trainable = parameters(found) if made is None else made.trainable
        planned.append(MethodPlan(method, trainable, memory(config, found, one, made), flops, time))
    return ModelPlan(
        name, origin, parameters(found), {part: count for part, count in by_part(found).items()}, step,
        settings["r"], tokens, gpu, tuple(planned), _ranks(found, kind), cache_bytes(completed(config), 1),
    )  # fmt: skip


def _ranks(found: list[Weight], kind: str | None) -> dict[str, dict[int, int]]:
    names = {weight.module.rsplit(".", 1)[-1] for weight in found if weight.linear}
    table: dict[str, dict[int, int]] = {}
    for label, targets in TARGETS.items():
        chosen = FUSED.get(label, targets) if "qkv_proj" in names else targets
        if not isinstance(chosen, str) and not names.intersection(chosen):
            continue  # an architecture with other names
        table[label] = {rank: adapter(found, {"r": rank, "target_modules": chosen}, kind).trainable for rank in RANKS}
    return table
