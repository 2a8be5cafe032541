"""DoRA on linear layers without its dense product."""

from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.dora import DoraLinearLayer
from peft.utils.integrations import dequantize_module_weight
from torch import Tensor, nn
from torch.nn import functional


class FactoredDora(DoraLinearLayer):
    """peft's DoRA for a linear layer, with row norms computed from the low-rank factors.

    Per row, ||W + sBA||^2 = ||W||^2 + 2s sum(W A^T o B) + s^2 sum(B (A A^T) o B), where ||W||^2 is computed once. No
    matrix of the size of W is created. peft's own forward multiplies A and B by an identity of d_in x d_in and adds the
    product to W, in every layer at every step.
    """

    squares: Tensor
    """||W||^2 of each row, [d_out], float32."""

    def norms(self, base: nn.Linear, lora_a: Tensor, lora_b: Tensor, scaling: float) -> Tensor:
        """Compute ||W + sBA|| of each row. Shapes: lora_a [r, d_in], lora_b [d_out, r]; returns [d_out] in float32."""
        with torch.no_grad(), torch.autocast(lora_a.device.type, enabled=False):
            cross = product(base, lora_a).T.float()
            a, b = lora_a.float(), lora_b.float()
            update = 2 * scaling * (cross * b).sum(1) + scaling**2 * ((b @ (a @ a.T)) * b).sum(1)
            return (self.squares + update).sqrt()

    def forward(
        self,
        x: Tensor,
        *,
        lora_A: nn.Linear,
        lora_B: nn.Linear,
        scaling: float,
        base_layer: nn.Linear,
        base_result: Tensor | None = None,
        adapter_name: str = "default",
    ) -> Tensor:
        """Compute the update to the base's output: (m/n - 1) x W^T + (m/n) s x A^T B^T; n is detached.

        (Liu et al. 2024, eq. 5 and section 4.3.) Shapes: x [..., d_in], base_result and result [..., d_out].
        `base_result` is the base's output for this x; it is None if dropout changed x.
        """
        ratio = self.weight / self.norms(base_layer, lora_A.weight, lora_B.weight, scaling)
        if base_result is None:
            base_result = product(base_layer, x)
        elif base_layer.bias is not None:
            base_result = base_result - base_layer.bias
        # In the base's dtype, so that no [tokens, d_out] tensor is promoted to float32 by the ratio.
        update = functional.linear(lora_A(x), lora_B.weight * (ratio * scaling)[:, None])
        return (ratio - 1).to(base_result.dtype) * base_result + update


def product(layer: nn.Linear, x: Tensor) -> Tensor:
    """Compute x W^T without the bias. A 4-bit W is de-quantized by its own layer, which keeps no copy of it."""
    if type(layer) is nn.Linear:
        return functional.linear(x.to(layer.weight.dtype), layer.weight)
    out = layer(x)
    return out if layer.bias is None else out - layer.bias


def factor_dora(model: nn.Module, *, new: bool) -> None:
    """Make every DoRA adapter on a linear layer use FactoredDora; peft handles other layers itself.

    A `new` adapter's magnitudes are recomputed: peft rounds them to the base's dtype. In bfloat16 they would be off by
    0.3%, and the first step would start from a model other than the parent.
    """
    for layer in model.modules():
        if not isinstance(layer, LoraLayer):
            continue
        base = layer.get_base_layer()
        # 8-bit layers round their inputs, including A; embeddings and convolutions have their own forward.
        if not isinstance(base, nn.Linear) or type(base.weight).__name__ == "Int8Params":
            continue
        for name, dora in layer.lora_magnitude_vector.items():
            if type(dora) is not DoraLinearLayer:
                continue
            factored: Any = dora
            factored.__class__ = FactoredDora
            factored.register_buffer("squares", row_squares(base), persistent=False)
            if new:
                a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
                factored.weight.data = factored.norms(base, a, b, layer.scaling[name])


def row_squares(layer: nn.Linear, rows: int = 1024) -> Tensor:
    """Compute ||W||^2 of each row, [d_out], float32; `rows` at a time, because W in float32 is twice as large."""
    weight = dequantize_module_weight(layer).detach()
    return torch.cat([part.float().square().sum(1) for part in weight.split(rows)])
