"""Batch-invariant token sampling: the draw depends only on seed, prompt index and position."""

from typing import TypeVar

import torch
from torch import Tensor

from ladder.inference.types import Sampling

Bits = TypeVar("Bits", int, Tensor)


def scramble(bits: Bits) -> Bits:
    """Hash of 32-bit integers (lowbias32 of Wellons' hash-prospector); equal results for an int and an int64 tensor."""
    bits = ((bits >> 16) ^ bits) * 0x7FEB352D & 0xFFFFFFFF
    bits = ((bits >> 15) ^ bits) * 0x846CA68B & 0xFFFFFFFF
    return (bits >> 16) ^ bits


def choose(logits: Tensor, noise: Tensor, sampling: Sampling) -> Tensor:
    """Choose next tokens [rows] from logits [rows, vocabulary] and 32 random bits per row.

    Sampling inverts the cumulative distribution in int32 with units of 2^-30. Integer sums do not depend on the order
    of addition (a float cumsum on CUDA is not reproducible), and are the fastest on a CPU. A token with probability
    below 2^-30 is never drawn.
    """
    logits = logits.float()
    if sampling.temperature == 0:
        return logits.argmax(-1)
    one = 2**30
    weights = torch.softmax(logits / sampling.temperature, -1).mul_(one).int()
    if sampling.top_p < 1:
        # A token lighter than an even share of the tail is in no nucleus. On CUDA, counting would synchronize.
        light = one * (1 - sampling.top_p) / logits.shape[-1]
        count = logits.shape[-1] if logits.is_cuda else int((weights >= light).sum(-1).max())
        ranked = weights.topk(count).values
        outside = ranked.cumsum(-1, dtype=torch.int32) - ranked >= one * sampling.top_p
        weights = weights.where(weights >= ranked.masked_fill(outside, one).amin(-1, keepdim=True), 0)
    sums = weights.cumsum(-1, dtype=torch.int32)
    target = (sums[:, -1] * (noise.double() / 2**32)).int()
    return torch.searchsorted(sums, target[:, None], right=True)[:, 0]
