"""Cost ledger of the page: time, peak memory and throughput of each rung, as far as a file records them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ladder.data.strict_json import parse_json
from ladder.report.page_files import Files

SECONDS = Path(".dvc/tmp/ladder/seconds.json")
"""Seconds of the last run of each stage on this machine (ladder/plan/durations.py)."""
KEPT = ("seconds", "memory_gb", "tokens_per_second", "samples_per_second", "device", "parameters", "method")


def costs(files: Files, rungs: Sequence[str]) -> list[dict[str, Any]]:
    """Return the costs of each rung; a key is absent where nothing records it.

    seconds, memory_gb (10^9 bytes, peak), tokens_per_second, samples_per_second and device are those of the training,
    from metrics/RUNG.json, else data/provenance/RUNG.json. stage_seconds and answer_seconds are those of the last run
    here of its stage and of its answers; only the workspace has them.
    """
    ran = stage_seconds() if files.commit is None else {}
    found = []
    for rung in rungs:
        record = files.json(f"metrics/{rung}.json", dict) or files.json(f"data/provenance/{rung}.json", dict) or {}
        stage, _, entry = rung.partition("/")
        stages = {"stage_seconds": f"{stage}@{entry}" if entry else stage, "answer_seconds": f"answer@{rung}"}
        timed = {name: ran[key] for name, key in stages.items() if key in ran}
        found.append({"rung": rung, **{name: record[name] for name in KEPT if name in record}, **timed})
    return found


def stage_seconds() -> dict[str, float]:
    """Return the seconds of the last run of each stage on this machine; empty without a readable record."""
    try:
        stages = parse_json(SECONDS.read_text(encoding="utf-8"))["stages"]
        return {str(name): float(one["seconds"]) for name, one in stages.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # a record is a convenience, never an input
        return {}


def totals(seconds: dict[str, float]) -> list[tuple[str, int, float]]:
    """Return (stage, number of entries, seconds) of each kind of stage, the longest first."""
    sums: dict[str, tuple[int, float]] = {}
    for name, value in seconds.items():
        count, before = sums.get(name.partition("@")[0], (0, 0.0))
        sums[name.partition("@")[0]] = (count + 1, before + value)
    return sorted(((stage, count, value) for stage, (count, value) in sums.items()), key=lambda one: -one[2])
