"""Out-of-memory handling: retry with smaller batches, and report what uses a GPU's memory."""

import gc
from collections.abc import Callable

import torch

from ladder.pipeline.stage import UserError


def holders(free: int, total: int, ours: int) -> str:
    """Describe the use of a GPU's memory. Arguments in bytes: `free`, `total`, and `ours`, which torch has reserved.

    The rest is used by other programs and by CUDA, whose context takes a few hundred MB per process.
    """
    others = max(0, total - free - ours)
    return (
        f"of the GPU's {total / 1e9:.1f} GB, this process uses {ours / 1e9:.1f}, "
        f"other programs and CUDA use {others / 1e9:.1f}, and {free / 1e9:.1f} are free"
    )


def ran_out(device: torch.device) -> str:
    """Message that memory ran out; on a GPU, with the current use of its memory."""
    if device.type != "cuda":
        return "out of memory"
    return f"out of GPU memory ({holders(*torch.cuda.mem_get_info(device), torch.cuda.memory_reserved(device))})"


def within_memory(
    generate: Callable[[int], None], fitting: Callable[[], int], rows: int | None, device: torch.device
) -> None:
    """Run `generate(rows)`, and retry with at most half as many rows when memory runs out.

    `generate` resumes from its earlier results. `fitting` returns the number of rows that fit into free memory. With a
    user-set `rows` there is no retry. Errors: UserError, with the use of the memory and what to lower, if one row or
    the user's `rows` do not fit.
    """
    count = rows or fitting()
    while True:
        try:
            return generate(count)
        except (torch.OutOfMemoryError, torch.AcceleratorError) as error:  # from torch's allocator, or CUDA's own
            if "out of memory" not in str(error):
                raise
            if rows or count == 1:
                raise UserError(
                    f"{ran_out(device)} with a batch of {count}. Lower {'batch, ' if rows else ''}"
                    "max_new_tokens (a trainer's max_completion_length), or end other programs that use the memory."
                ) from None
        # Outside the except block: during handling, the traceback keeps the tensors alive.
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        count, full = min(count // 2, fitting()), count
        print(f"{ran_out(device)} with a batch of {full}; continuing with {count}", flush=True)
