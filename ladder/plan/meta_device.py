"""Weights of any architecture that transformers knows, from the model on torch's meta device."""

from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

from ladder.pipeline.errors import UserError
from ladder.plan.weights import Part, Weight

disable_progress_bar()


def from_meta_device(config: dict[str, Any]) -> list[Weight]:
    """Build the model of a configuration on torch's meta device and list its parameters.

    Errors: UserError for an architecture that transformers does not know, or a configuration that it refuses.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise UserError(f"config.json: model_type: expected an architecture that transformers knows, got {kind!r}")
    try:
        with torch.device("meta"):
            values = {key: value for key, value in config.items() if key not in ("model_type", "quantization_config")}
            model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **values), trust_remote_code=False)
    except (ValueError, TypeError, AttributeError, KeyError, RuntimeError) as error:
        raise UserError(f"config.json: {kind}: transformers refuses it: {' '.join(str(error).split())}") from None
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    found, seen = [], set()
    for path, module in model.named_modules():
        for name, value in module.named_parameters(recurse=False):
            linear = isinstance(module, torch.nn.Linear) and name == "weight"
            part = (
                "embedding" if module is embedding else "head" if module is head else _part(path, value.dim(), linear)
            )
            tied = id(value) in seen
            seen.add(id(value))
            found.append(Weight(path, name, tuple(value.shape), part, linear, tied))
    return found


def _part(path: str, dimensions: int, linear: bool) -> Part:
    """Guess the part of a parameter from its module path."""
    last = path.rsplit(".", 1)[-1]
    if "vision" in path or "visual" in path:
        return "vision"
    if "expert" in path:
        return "experts"
    if last in ("router", "gate") and dimensions == 2:
        return "router"
    if "norm" in last or last.startswith("ln"):
        return "norm"
    return "attention" if "attn" in path or "attention" in path else "mlp" if linear or "mlp" in path else "attention"
