"""LoRA and DoRA layers whose base product and low-rank update are one autograd function.

peft's layer casts its input to float32, multiplies, scales and adds in separate steps. The function here adds the
update inside the second matrix product and keeps one copy of the input, in the compute dtype. The result is peft's up
to rounding. `fuse_adapters` replaces the class of every layer that the function covers and leaves the others to peft.
"""

from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn

from ladder.models.dora import FactoredDora


class AdaptedProduct(torch.autograd.Function):
    """y = m o (x W^T) + (m o s) (x A^T) B^T with a frozen W; m is DoRA's ratio of norms, absent for plain LoRA.

    (Hu et al. 2021, eq. 3; Liu et al. 2024, eq. 5 and section 4.3.) Shapes: x [..., d_in], weight [d_out, d_in],
    lora_a [r, d_in], lora_b [d_out, r], ratio [d_out] or None; returns [..., d_out] in x's dtype. Products are computed
    in x's dtype, gradients of A, B and the ratio are returned in their own dtypes.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, lora_a: Tensor, lora_b: Tensor, ratio: Tensor | None, scaling: float
    ) -> Tensor:
        tokens = x.reshape(-1, x.shape[-1])
        scale = scaling if ratio is None else (ratio * scaling)[:, None]
        a, b = lora_a.to(x.dtype), (lora_b * scale).to(x.dtype)
        low = tokens @ a.T
        product = tokens @ weight.T
        output = product if ratio is None else scaled(product, ratio)
        output.addmm_(low, b.T)
        ctx.save_for_backward(tokens, weight, a, b, low, lora_b, ratio, None if ratio is None else product)
        ctx.scaling, ctx.shape, ctx.dtype = scaling, x.shape, lora_a.dtype
        return output.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        tokens, weight, a, b, low, lora_b, ratio, product = ctx.saved_tensors
        gradient = gradient.reshape(-1, gradient.shape[-1])
        low_gradient = gradient @ b
        of_a = (low_gradient.T @ tokens).to(ctx.dtype)
        correlation = (gradient.T @ low).to(lora_b.dtype)
        of_ratio = None
        if ratio is None:
            of_b = correlation * ctx.scaling
        else:
            of_b = correlation * (ratio * ctx.scaling)[:, None]
            of_ratio = (gradient * product).sum(0, dtype=ratio.dtype) + ctx.scaling * (correlation * lora_b).sum(1)
            gradient = scaled(gradient, ratio)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (gradient @ weight).addmm_(low_gradient, a).view(ctx.shape)
        return of_x, None, of_a, of_b, of_ratio, None


def scaled(rows: Tensor, ratio: Tensor) -> Tensor:
    """Multiply columns of `rows` [tokens, d_out] by `ratio` [d_out] in the wider dtype; round once to rows' dtype.

    A ratio near 1 that was rounded to bfloat16 first would lose all that DoRA has learned.
    """
    return torch.mul(rows, ratio, out=torch.empty_like(rows))


class FusedLinear(LoraLinear):
    """peft's LoRA or DoRA on a linear layer, computed by AdaptedProduct while one adapter is active and not merged."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Output of the adapted layer. Shapes: x [..., d_in]; returns [..., d_out]."""
        active = [name for name in self.active_adapters if name in self.lora_A]
        if self.disable_adapters or self.merged or len(active) != 1 or args or kwargs:
            return super().forward(x, *args, **kwargs)
        (name,) = active
        base: Any = self.base_layer
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else base.weight.dtype
        a, b, scaling = self.lora_A[name].weight, self.lora_B[name].weight, self.scaling[name]
        ratio = None
        if name in self.lora_magnitude_vector:
            dora: Any = self.lora_magnitude_vector[name]
            ratio = dora.weight / dora.norms(base, a, b, scaling)
        with torch.autocast(kind, enabled=False):
            y = AdaptedProduct.apply(x.to(dtype), base.weight.to(dtype), a, b, ratio, scaling)
            return y if base.bias is None else y + base.bias.to(dtype)


def fuse_adapters(model: nn.Module) -> int:
    """Fuse every adapter on a plain, frozen linear layer without dropout; return the number of fused layers.

    Left to peft: layers of quantized weights, embeddings, adapters with dropout or a bias, and variants of LoRA other
    than DoRA with factored norms.
    """
    fused = 0
    for layer in model.modules():
        if type(layer) is LoraLinear and _covered(layer):
            layer.__class__ = FusedLinear
            fused += 1
    return fused


def _covered(layer: LoraLinear) -> bool:
    base = layer.get_base_layer()
    return (
        type(base) is nn.Linear
        and not base.weight.requires_grad
        and not (base.bias is not None and base.bias.requires_grad)
        and all(isinstance(dropout, nn.Identity) for dropout in layer.lora_dropout.values())
        and all(part.bias is None for part in layer.lora_B.values())
        and all(type(layer.lora_magnitude_vector[name]) is FactoredDora for name in layer.lora_magnitude_vector)
        and layer.lora_variant.keys() <= layer.lora_magnitude_vector.keys()
    )
