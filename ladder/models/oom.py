"""Work that takes less memory when it runs out, and the words for who holds a GPU's memory."""

import gc
from collections.abc import Callable

import torch

from ladder.pipeline.stage import UserError


def holders(free: int, total: int, ours: int) -> str:
    """Who holds a GPU's memory, all in bytes: `free` of the `total`, and `ours`, which torch has reserved.

    What is left is that of other programs and of CUDA itself, whose context takes some hundred MB in each of them.
    """
    others = max(0, total - free - ours)
    return (
        f"of its {total / 1e9:.1f} GB this process holds {ours / 1e9:.1f}, "
        f"other programs and CUDA itself {others / 1e9:.1f}, and {free / 1e9:.1f} are free"
    )


def ran_out(device: torch.device) -> str:
    """That memory ran out and, on a GPU, who holds it now."""
    if device.type != "cuda":
        return "out of memory"
    return f"out of GPU memory ({holders(*torch.cuda.mem_get_info(device), torch.cuda.memory_reserved(device))})"


def within_memory(
    generate: Callable[[int], None], fitting: Callable[[], int], rows: int | None, device: torch.device
) -> None:
    """Run `generate(rows)`; when memory runs out, again with half the rows or with fewer, until one does not fit.

    `generate` goes on from what it has made. `fitting` says how many rows fit in what is free; the user's own `rows`
    are taken as they are. Errors: UserError with who holds the memory and what to lower.
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
                    f"{ran_out(device)} in a batch of {count}: lower {'batch, ' if rows else ''}"
                    "max_new_tokens (a trainer's max_completion_length), or end what else uses the memory"
                ) from None
        # Only here: while the error is handled, its traceback holds what was taken.
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        count, full = min(count // 2, fitting()), count
        print(f"{ran_out(device)} in a batch of {full}, going on with {count}", flush=True)
