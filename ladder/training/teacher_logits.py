"""Compressed teacher distributions for distillation: about a hundred bytes per token instead of a full vocabulary.

The `top_k` most likely tokens are stored with their probabilities. For the rest of the distribution, either its total
mass is stored (one bucket), or `samples` draws that share that mass equally. The draws give an unbiased target
(Anshumann et al. 2025, arXiv:2503.16870, who sample the whole distribution). They use systematic sampling: evenly
spaced points of the cumulative distribution from one random start, so a token's count is its expected count, rounded up
or down.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ladder.data.atomic_write import replacing
from ladder.data.strict_json import parse_json
from ladder.pipeline.stage import UserError

_PARTS = ("ids", "learned", "lengths", "head", "head_logps", "draws", "rest_logp", "entropy")
_ONE = 2**52  # integer cumulative sums are identical on every device and in every order


@dataclass(frozen=True)
class Kept:
    """Stored teacher distribution at temperature T for n tokens."""

    head: Tensor
    """int64 [n, top_k]: the most likely tokens."""
    head_logps: Tensor
    """float16 [n, top_k]: their log-probabilities."""
    draws: Tensor
    """int64 [n, samples]: tokens sampled from the rest of the distribution."""
    rest_logp: Tensor
    """float16 [n]: log of the total probability outside the top_k tokens."""
    entropy: Tensor
    """float32 [n]: entropy of the full distribution, in nats."""


@dataclass(frozen=True)
class Target:
    """Teacher distribution as input of the loss: `weights` and `rest` sum to 1.

    indices int64, weights float32 [n, top_k + samples]; rest, entropy float32 [n]. `rest` is the mass outside all
    indices. `entropy` turns the cross-entropy into a KL divergence.
    """

    indices: Tensor
    weights: Tensor
    rest: Tensor
    entropy: Tensor


@dataclass(frozen=True)
class Taught:
    """Contents of a targets file: conversations with the teacher's distributions at their learned tokens."""

    ids: list[Tensor]
    """Token ids per row, int64 [length]."""
    learned: list[Tensor]
    """Mask of learned tokens per row, bool [length]."""
    kept: Kept
    temperature: float
    teacher: str
    """Identity of the teacher's rung."""


def keep(logps: Tensor, starts: Tensor, *, top_k: int, samples: int) -> Kept:
    """Compress log-probabilities [n, vocabulary].

    starts: float64 [n] in [0, 1), the random starts of the systematic sampling.
    """
    head = logps.topk(top_k, dim=-1)
    others = logps.double().exp().scatter(-1, head.indices, 0)
    rest = others.sum(-1, keepdim=True)
    sums = (others / rest.clamp_min(1e-300) * _ONE).long().cumsum(-1)
    points = (torch.arange(samples, device=logps.device) + starts[:, None]) / max(1, samples)
    draws = torch.searchsorted(sums, (points * sums[:, -1:]).long(), right=True)
    return Kept(
        head.indices,
        head.values.half(),
        draws.clamp_max(logps.shape[-1] - 1),
        rest[:, 0].log().half(),
        -(logps.exp() * logps).sum(-1),
    )


def target(kept: Kept) -> Target:
    """Convert a stored distribution to a loss target.

    The top_k probabilities are rescaled so that the total is exactly 1 despite float16 storage.
    """
    head, rest = kept.head_logps.float().exp(), kept.rest_logp.float().exp()
    head = head * ((1 - rest) / head.sum(-1).clamp_min(1e-30))[:, None] if head.shape[-1] else head
    draws = kept.draws.shape[-1]
    if not draws:
        parts = torch.cat([head, rest[:, None]], -1)
        return Target(kept.head, head, rest, torch.special.entr(parts).sum(-1))
    shares = (rest / draws)[:, None].expand(-1, draws)
    return Target(torch.cat([kept.head, kept.draws], -1), torch.cat([head, shares], -1), 0 * rest, kept.entropy)


def dense(target: Target, vocabulary: int) -> Tensor:
    """Expand a target to probabilities [n, vocabulary]; `rest` is spread evenly over the tokens without an index."""
    spread = (target.rest / max(1, vocabulary - target.indices.shape[-1]))[:, None].repeat(1, vocabulary)
    spread = spread.scatter(-1, target.indices, 0)
    return spread.scatter_add(-1, target.indices, target.weights)


def save_taught(path: Path, taught: Taught, *, vocabulary: int) -> None:
    """Write a targets file (safetensors) with 4 bytes per top_k token and 2 per draw.

    With a vocabulary above 65,536 tokens it is 6 and 4 bytes.
    """
    small = torch.uint16 if vocabulary <= 2**16 else torch.int32
    kept = taught.kept
    parts = {
        "ids": torch.cat(taught.ids).to(small),
        "learned": torch.cat(taught.learned),
        "lengths": torch.tensor([len(row) for row in taught.ids]),
        "head": kept.head.to(small),
        "head_logps": kept.head_logps,
        "draws": kept.draws.to(small),
        "rest_logp": kept.rest_logp,
        "entropy": kept.entropy,
    }
    # A single entry, because safetensors writes several in an order that varies between calls.
    made = {"made": json.dumps({"teacher": taught.teacher, "temperature": taught.temperature})}
    with replacing(path) as temporary:
        save_file({name: part.contiguous() for name, part in parts.items()}, temporary, metadata=made)


def load_taught(path: Path) -> Taught:
    """Read a targets file. Errors: UserError when it is missing, truncated, or not a targets file."""
    try:
        with safe_open(path, framework="pt") as file:
            parts = {name: file.get_tensor(name) for name in _PARTS}
            made = parse_json(file.metadata()["made"])
    except (FileNotFoundError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a file of teacher targets: {error}. `dvc repro` makes it again.") from None
    lengths = parts["lengths"].tolist()
    return Taught(
        list(parts["ids"].long().split(lengths)),
        list(parts["learned"].split(lengths)),
        Kept(parts["head"].long(), parts["head_logps"], parts["draws"].long(), parts["rest_logp"], parts["entropy"]),
        float(made["temperature"]),
        made["teacher"],
    )
