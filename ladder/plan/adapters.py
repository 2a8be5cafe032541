"""Trainable parameters of a LoRA or DoRA adapter, from peft's LoraConfig as a dict, by the rules of peft 0.21."""

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from ladder.pipeline.errors import UserError
from ladder.plan.weights import Weight

DEFAULT = {"r": 8, "target_modules": "all-linear"}
"""peft's default rank, and the target modules that the ladder sets where params.yaml names none."""
EXPERTS = {
    "mixtral": {"gate": "gate.weight", "w1": "gate_up_proj", "w3": "gate_up_proj", "w2": "down_proj"},
    "qwen3_moe": {
        "gate": "gate.weight",
        "gate_proj": "gate_up_proj",
        "up_proj": "gate_up_proj",
        "down_proj": "down_proj",
    },
}
"""Names of expert and router layers before transformers 5, and the stacked parameters that peft adapts in their place.

gate_up_proj holds two of the old layers, so peft doubles its rank (peft.utils.transformers_weight_conversion).
"""


@dataclass(frozen=True)
class Adapter:
    """Trainable parameters of an adapter, by part."""

    low_rank: int
    """A [r, d_in] and B [d_out, r] of all layers."""
    magnitudes: int = 0
    """DoRA's magnitude vectors, [d_out] of each layer."""
    saved: int = 0
    """Full copies of `modules_to_save`."""
    biases: int = 0
    """`bias: all` or `lora_only`, and `lora_bias`."""
    tokens: int = 0
    """Rows of `trainable_token_indices`."""
    layers: tuple[tuple[int, int, int], ...] = ()
    """(d_in, d_out, r) of each adapted linear layer."""

    @property
    def trainable(self) -> int:
        """Number of trainable parameters."""
        return self.low_rank + self.magnitudes + self.saved + self.biases + self.tokens


def adapter(weights: list[Weight], settings: dict[str, Any], kind: str | None = None) -> Adapter:
    """Count the trainable parameters of an adapter with these LoraConfig settings on a model of model_type `kind`.

    Errors: UserError for a rank below 1, and for names that match no module.
    """
    asked = _with_experts({**DEFAULT, **{key: value for key, value in settings.items() if value is not None}}, kind)
    modules: dict[str, dict[str, Weight]] = defaultdict(dict)
    for weight in weights:
        modules[weight.module][weight.name] = weight
    targets = [name for name in modules if _adaptable(modules[name]) and _targeted(name, modules[name], asked)]
    low_rank = magnitudes = biases = 0
    layers = []
    for name in targets:
        rows, columns = modules[name]["weight"].shape
        rank = _rank(name, asked)
        low_rank += rank * (rows + columns)
        embedding = not modules[name]["weight"].linear
        magnitudes += (columns if embedding else rows) if asked.get("use_dora") else 0
        biases += rows if asked.get("lora_bias") else 0
        biases += _bias(modules[name]) if asked.get("bias") == "lora_only" else 0
        layers.append((columns, rows, rank))
    experts = [(name, each) for name in modules for each in modules[name].values() if _is_parameter(each, asked)]
    for name, each in experts:
        count, rank = (each.shape[0] if len(each.shape) == 3 else 1), _rank(f"{name}.{each.name}", asked)
        low_rank += rank * count * (each.shape[-1] + each.shape[-2])
    if experts and asked.get("use_dora"):
        raise UserError(
            "lora.use_dora: peft adapts stacked experts without DoRA; expected target_modules of linear layers"
        )
    if not targets and not experts:
        names = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in modules if _adaptable(modules[name])}))
        raise UserError(f"lora.target_modules: no module matches {asked['target_modules']!r}; the model has {names}")
    saved = {name for name in modules for kept in asked.get("modules_to_save") or () if _ends(name, kept)}
    if asked.get("bias") == "all":
        biases += sum(_bias(modules[name]) for name in modules if name not in saved)
    return Adapter(
        low_rank,
        magnitudes,
        sum(each.size for name in saved for each in modules[name].values()),
        biases,
        _tokens(modules, asked),
        tuple(layers),
    )


def _with_experts(asked: dict[str, Any], kind: str | None) -> dict[str, Any]:
    """Add the stacked experts that peft adapts for `all-linear` and for the old names of their layers."""
    renamed, targets = EXPERTS.get(kind or "", {}), asked["target_modules"]
    all_linear = isinstance(targets, str) and targets.lower() == "all-linear"
    if not renamed or (isinstance(targets, str) and not all_linear):
        return asked
    old = {name.rsplit(".", 1)[-1] for name in (renamed if all_linear else targets)}
    named = {new for name, new in renamed.items() if name in old}
    kept = targets if all_linear else [each for each in targets if each.rsplit(".", 1)[-1] not in renamed]
    kept = targets if all_linear else [each for each in targets if each.rsplit(".", 1)[-1] not in renamed]
    double = {r".*\.gate_up_proj": 2 * asked["r"]} if "gate_up_proj" in named else {}
    return {
        **asked,
        "target_modules": kept,
        "exclude_modules": asked.get("exclude_modules") if not all_linear else [
            *_names(asked.get("exclude_modules")), "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
        ],
        "target_parameters": [*(asked.get("target_parameters") or ()), *sorted(named)],
        "rank_pattern": {**(asked.get("rank_pattern") or {}), **double},
    }  # fmt: skip


def _names(excluded: Any) -> list[str]:
    return [excluded] if isinstance(excluded, str) else list(excluded or ())


def _adaptable(module: dict[str, Weight]) -> bool:
    found = module.get("weight")
    return found is not None and (found.linear or found.part == "embedding")


def _targeted(name: str, module: dict[str, Weight], asked: dict[str, Any]) -> bool:
    """Whether peft's `check_target_module_exists` selects a module."""
    excluded, targets = asked.get("exclude_modules") or (), asked["target_modules"]
    if re.fullmatch(excluded, name) if isinstance(excluded, str) else any(_ends(name, each) for each in excluded):
        return False
    if any(re.match(rf"(^|.*\.){kept}($|\..*)", name) for kept in asked.get("modules_to_save") or ()):
        return False
    if isinstance(targets, str) and targets.lower() == "all-linear":
        if not module["weight"].linear or module["weight"].part == "head":
            return False
    elif isinstance(targets, str):
        if not _fullmatch(targets, name):
            return False
    elif not any(_ends(name, each) for each in targets):
        return False
    return isinstance(targets, str) and targets.lower() != "all-linear" or _in_layers(name, asked)


def _fullmatch(pattern: str, name: str) -> bool:
    try:
        return re.fullmatch(pattern, name) is not None
    except re.error as error:
        raise UserError(f"lora.target_modules: not a regular expression: {pattern!r}: {error}") from None


def _in_layers(name: str, asked: dict[str, Any]) -> bool:
    chosen = asked.get("layers_to_transform")
    if chosen is None or chosen == []:
        return True
    patterns = asked.get("layers_pattern") or r"[^.]*"
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if found := re.match(rf"(?:^|.*?\.){pattern}\.(\d+)\.", name):
            return int(found[1]) in ([chosen] if isinstance(chosen, int) else chosen)
    return False


def _rank(name: str, asked: dict[str, Any]) -> int:
    rank = next(
        (value for key, value in (asked.get("rank_pattern") or {}).items() if re.match(rf"(.*\.)?({key})$", name)),
        asked["r"],
    )
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise UserError(f"lora.r: expected a whole number of at least 1, got {rank!r}")
    return rank


def _is_parameter(weight: Weight, asked: dict[str, Any]) -> bool:
    full = f"{weight.module}.{weight.name}"
    return len(weight.shape) >= 2 and any(_ends(full, each) for each in asked.get("target_parameters") or ())


def _ends(name: str, suffix: str) -> bool:
    return name == suffix or name.endswith(f".{suffix}")


def _bias(module: dict[str, Weight]) -> int:
    return module["bias"].size if "bias" in module else 0


def _tokens(modules: dict[str, dict[str, Weight]], asked: dict[str, Any]) -> int:
    """Elements of the embedding rows that `trainable_token_indices` trains."""
    given = asked.get("trainable_token_indices") or []
    chosen = given if isinstance(given, dict) else {"embed_tokens": given}
    widths = {name: module["weight"].shape[-1] for name, module in modules.items() if "weight" in module}
    return sum(
        len(set(indices)) * next((width for name, width in widths.items() if _ends(name, module)), 0)
        for module, indices in chosen.items()
    )
