"""Message about the processes that hold a GPU's memory; test_engine.py tests running out and continuing."""

from ladder.models.oom import holders


def test_who_holds_a_gpus_memory() -> None:
    reported = "of the GPU's 85.0 GB, this process uses 40.1, other programs and CUDA use 44.3, and 0.6 are free"
    assert holders(free=600_000_000, total=85_000_000_000, ours=40_100_000_000) == reported
    alone = "of the GPU's 85.0 GB, this process uses 84.0, other programs and CUDA use 0.0, and 1.0 are free"
    assert holders(free=1_000_000_000, total=85_000_000_000, ours=84_000_000_001) == alone
