"""Which dtype rungs are loaded and trained in: the dtype of their base.

bfloat16 halves the memory of weights. A CPU without bfloat16 units emulates it and is slower than with float32, so
`base.dtype: auto` chooses by the hardware. All rungs above a base follow it, because rung.json of the base records the
choice.
"""

from pathlib import Path

import torch

from ladder.models.rung import read_rung

UNITS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
"""Names of bfloat16 instructions in torch.cpu.get_capabilities(), of x86-64 and Arm."""
NAMES = {torch.bfloat16: "bfloat16", torch.float32: "float32"}


def native_bfloat16() -> bool:
    """Return whether the device of this process multiplies matrices in bfloat16 without emulation."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in UNITS)


def chosen(dtype: str) -> torch.dtype:
    """Return the dtype of a base by its key: `bfloat16`, `float32`, or `auto`, which one log line explains."""
    if dtype != "auto":
        return {name: kind for kind, name in NAMES.items()}[dtype]
    native = native_bfloat16()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "this CPU"
    kind = torch.bfloat16 if native else torch.float32
    print(
        f"base: dtype auto: {device} has {'' if native else 'no '}bfloat16 units; weights and training are in "
        f"{NAMES[kind]}",
        flush=True,
    )
    return kind


def compute_dtype(base: Path) -> torch.dtype:
    """Return the dtype of the rungs on a base: float32 if rung.json of the base records it, otherwise bfloat16."""
    return torch.float32 if read_rung(base).settings.get("dtype") == "float32" else torch.bfloat16
