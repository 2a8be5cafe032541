"""Tokens of a micro-batch that fit into a GPU's memory, measured on the model itself.

Memory grows linearly with the tokens of a micro-batch, since attention keeps no matrix of tokens by tokens. Two short
forward and backward passes give the slope, so no formula has to know the model's layers.
"""

from typing import Any

import torch
from accelerate.utils import DistributedType

CPU_TOKENS = 2048
"""On a CPU: enough to keep its cores busy, 3 GB of activations at 135M parameters."""
SHARDED_TOKENS = 8192
"""Under FSDP, whose memory depends on the shards; set micro_batch_tokens for more."""
MOST = 65_536
"""Larger micro-batches are no faster."""
PROBE = 2048
"""Tokens of the shorter of the two measured passes."""
SHARE = 0.92
"""Share of the free memory that is planned for: fragments, kernels' workspaces and other steps need the rest."""
STEP = 256


def measured_budget(trainer: Any) -> int:
    """Tokens of a micro-batch for a MicroBatches trainer: measured on a GPU, constant elsewhere.

    The model's state is as before: gradients, random state and collected metrics are restored.
    """
    device = trainer.args.device
    if device.type != "cuda":
        return CPU_TOKENS
    if trainer.accelerator.distributed_type == DistributedType.FSDP:
        return SHARDED_TOKENS
    rows = sorted((trainer.train_dataset[i] for i in range(min(len(trainer.train_dataset), 4096))), key=_length)[::-1]
    peaks = []
    for tokens in (PROBE, PROBE, 2 * PROBE):  # the first one allocates workspaces
        peak = _peak(trainer, _up_to(rows, tokens))
        if peak is None:
            return PROBE // 4  # a step lowers it further
        peaks.append(peak)
    _, (fewer, low), (more, high) = peaks
    slope = max((high - low) / max(more - fewer, 1), 1.0)
    fixed = max(low - slope * fewer, 0.0) + optimizer_bytes(trainer.model, str(trainer.args.optim))
    if trainer.args.world_size > 1:
        fixed += sum(weight.nbytes for weight in trainer.model.parameters() if weight.requires_grad)  # DDP's buckets
    free, _ = torch.cuda.mem_get_info(device)
    ours = free + torch.cuda.memory_reserved(device)
    budget = tokens_within(SHARE * ours, fixed, slope)
    print(
        f"micro_batch_tokens: {budget} ({slope / 1e6:.2f} MB a token, {fixed / 1e9:.1f} GB beside them, "
        f"{ours / 1e9:.1f} GB usable)",
        flush=True,
    )
    return budget


def tokens_within(memory: float, fixed: float, slope: float) -> int:
    """Largest multiple of 256 tokens with fixed + slope * tokens <= memory, in bytes; at least 256, at most 65,536."""
    return max(STEP, min(MOST, int((memory - fixed) / slope) // STEP * STEP))


def optimizer_bytes(model: torch.nn.Module, optimizer: str) -> int:
    """Bytes of the optimizer's state: two moments of each trainable weight, of one byte each for 8-bit optimizers.

    Paged optimizers keep their state outside the GPU's memory; SGD without momentum has none.
    """
    trainable = [weight for weight in model.parameters() if weight.requires_grad]
    if "paged" in optimizer or optimizer == "sgd":
        return 0
    if "8bit" in optimizer:
        return 2 * sum(weight.numel() for weight in trainable)
    return 2 * sum(weight.nbytes for weight in trainable)


def _length(row: dict[str, Any]) -> int:
    return len(row["input_ids"])


def _up_to(rows: list[dict[str, Any]], tokens: int) -> list[dict[str, Any]]:
    """Longest rows first, until they have `tokens`; rows repeat if there are too few."""
    chosen: list[dict[str, Any]] = []
    count = 0
    while count < tokens:
        chosen.append(rows[len(chosen) % len(rows)])
        count += _length(chosen[-1])
    return chosen


def _peak(trainer: Any, rows: list[dict[str, Any]]) -> tuple[int, int] | None:
    """(tokens, peak memory in bytes) of one forward and backward pass over the rows; None if it does not fit."""
    tokens = sum(map(_length, rows)) if trainer.packed else len(rows) * max(map(_length, rows))
    torch.cuda.reset_peak_memory_stats()
    try:
        trainer.rehearse(rows)
    except torch.OutOfMemoryError:
        return None
    finally:
        peak = torch.cuda.max_memory_allocated()
        trainer.model.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
    return tokens, peak
