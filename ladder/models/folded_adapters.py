"""Decoding with LoRA adapters folded into the weights, on a CPU and in float32.

A decoding step multiplies few rows, so two more products in each layer and their module calls cost a third of its time.
In float32 the sum W + s B A differs from the separate products by rounding alone. Narrower types would round the update
to the grid of the weights, and a GPU replays a captured step, so both keep the adapter apart.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn


@contextmanager
def folded_adapters(model: nn.Module) -> Iterator[None]:
    """Replace the weight of every adapted layer by W + s B A (Hu et al. 2021, section 4.1), and restore W at the end.

    Does nothing unless every adapter of the model can be folded: plain LoRA on float32 linear layers of a CPU. The sums
    take as much memory as the adapted weights.
    """
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    before: list[tuple[Any, Tensor]] = []
    try:
        if all(map(_can_fold, layers)):
            for layer in layers:
                before.append((layer, _fold(layer)))
        yield
    finally:
        for layer, weight in before:
            layer.base_layer.weight.data = weight
            layer.merged_adapters.clear()


def _can_fold(layer: Any) -> bool:
    if not isinstance(layer, LoraLinear) or type(layer.base_layer) is not nn.Linear:
        return False
    weight, names = layer.base_layer.weight, [name for name in layer.active_adapters if name in layer.lora_A]
    drops = layer.training and any(isinstance(layer.lora_dropout[name], nn.Dropout) for name in names)
    variants = any(name in layer.lora_variant or layer.lora_bias[name] for name in names)
    return (
        bool(names)
        and weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and not (layer.disable_adapters or layer.merged or drops or variants)
    )


@torch.no_grad()
def _fold(layer: Any) -> Tensor:
    """Fold a layer's active adapters; return its own weight [d_out, d_in]."""
    weight: Tensor = layer.base_layer.weight.data
    names = [name for name in layer.active_adapters if name in layer.lora_A]
    layer.base_layer.weight.data = sum((layer.get_delta_weight(name) for name in names), start=weight)
    layer.merged_adapters.extend(names)
    return weight
