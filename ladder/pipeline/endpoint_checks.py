"""Checks of references to models behind an endpoint, which can be asked and not loaded."""

from collections.abc import Iterator
from typing import Any

from ladder.pipeline.names import Fault

LOADED = {
    "filter": ("model",),
    "reference_logprobs": ("model",),
    "teacher_logits": ("model",),
    "distill": ("teacher",),
    "distill_features": ("teacher",),
    "gkd": ("teacher",),
    "speculate": ("teacher", "draft"),
}
"""Keys of a stage's entries whose model is loaded; `parent` and `reward_model` are loaded everywhere."""
EVERYWHERE = ("parent", "reward_model")
LISTS = (("claims", "accuracy"), ("claims", "divergence"))
WHY = "a model behind an endpoint, which has no weights here. Name a rung with weights"


def endpoint_faults(params: dict[str, Any]) -> Iterator[Fault]:
    """Find models behind an endpoint where weights are needed."""
    for stage, section in params.items():
        for name, entry in section.items() if isinstance(section, dict) else ():
            if not isinstance(entry, dict):
                continue
            for key in (*EVERYWHERE, *LOADED.get(stage, ())):
                if _is_endpoint(entry.get(key)):
                    yield Fault((stage, name, key), f"{entry[key]} is {WHY}")
            for number, parent in enumerate(_list(entry.get("parents"))):
                if _is_endpoint(parent):
                    yield Fault((stage, name, "parents", number), f"{parent} is {WHY}")
    for task in params.get("lm_eval") or {}:
        for rung in filter(_is_endpoint, _list((params.get("report") or {}).get("rungs"))):
            yield Fault(("lm_eval", task), f"runs on every rung of report.rungs, and {rung} is {WHY}")
    for stage, key in LISTS:
        section = params.get(stage)
        for number, rung in enumerate(_list(section.get(key) if isinstance(section, dict) else None)):
            if _is_endpoint(rung):
                yield Fault((stage, key, number), f"{rung} is {WHY}")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_endpoint(reference: Any) -> bool:
    return isinstance(reference, str) and reference.startswith("endpoint/")
