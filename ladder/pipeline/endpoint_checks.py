"""Checks of references to rungs without weights: models behind an endpoint, which can be asked and not loaded, and the
base of a ladder that only asks endpoints."""

from collections.abc import Iterator
from typing import Any

from ladder.pipeline.names import Fault
from ladder.pipeline.yaml_lines import Keys

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
ASKED = ("generate", "preferences", "synthesize")
EVERYWHERE = ("parent", "reward_model")
LISTS = (("claims", "accuracy"), ("claims", "divergence"))
WHY = "a model behind an endpoint, which has no weights here. Name a rung with weights"
NO_BASE = "base has no weights, because base.source is null. Name {}"


def endpoint_faults(params: dict[str, Any]) -> Iterator[Fault]:
    """Find rungs without weights where weights are needed."""
    base = params.get("base")
    has_base = not isinstance(base, dict) or base.get("source", "") is not None
    for keys, reference in _loaded(params):
        if isinstance(reference, str) and reference.startswith("endpoint/"):
            yield Fault(keys, f"{reference} is {WHY}")
        elif reference == "base" and not has_base:
            yield Fault(keys, NO_BASE.format("a source"))
    if not has_base:
        for keys in _asked_base(params):
            yield Fault(keys, NO_BASE.format("an endpoint"))


def _loaded(params: dict[str, Any]) -> Iterator[tuple[Keys, Any]]:
    """Yield (keys, value) of all references to rungs that are loaded."""
    for stage, section in params.items():
        for name, entry in section.items() if isinstance(section, dict) else ():
            if isinstance(entry, dict):
                for key in (*EVERYWHERE, *LOADED.get(stage, ())):
                    yield (stage, name, key), entry.get(key)
                for number, parent in enumerate(_list(entry.get("parents"))):
                    yield (stage, name, "parents", number), parent
    for task in params.get("lm_eval") or {}:
        for rung in _list((params.get("report") or {}).get("rungs")):
            yield ("lm_eval", task), rung
    for stage, key in LISTS:
        section = params.get(stage)
        for number, rung in enumerate(_list(section.get(key) if isinstance(section, dict) else None)):
            yield (stage, key, number), rung


def _asked_base(params: dict[str, Any]) -> Iterator[Keys]:
    """Yield the keys of entries that ask the base itself."""
    for stage in ASKED:
        for name, entry in (params.get(stage) or {}).items():
            if isinstance(entry, dict) and entry.get("model") == "base" and not entry.get("endpoint"):
                yield (stage, name, "model")
    for number, rung in enumerate(_list((params.get("report") or {}).get("rungs"))):
        if rung == "base":
            yield ("report", "rungs", number)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
