"""Defaults of a stage's entries: the section `defaults` of params.yaml.

    defaults:
      sft: {parent: base, lora: {r: 16, lora_alpha: 32}}
    sft:
      rank4: {lora: {r: 4}}      # parent: base, lora: {r: 4, lora_alpha: 32}

An entry inherits every key that it leaves out, also within a mapping. A list, a text, a number or null replaces the
default. links.yaml holds the keys that each entry inherits (ladder/pipeline/links.py), and DVC tracks them for that
entry alone: a changed default reruns the entries that inherit it, and no others.
"""

import copy
from collections.abc import Iterator
from typing import Any

from ladder.pipeline.names import SINGLE, TRACKED_WHOLE, Fault, did_you_mean

DEFAULTS = "defaults"
"""Section of params.yaml with the defaults of other sections."""


def overlay(data: Any, new: Any) -> Any:
    """Return `data` with `new` merged in: mappings key by key, any other value replaced. `data` is unchanged."""
    if not (isinstance(data, dict) and isinstance(new, dict)):
        return copy.deepcopy(new)
    return {**copy.deepcopy(data), **{name: overlay(data.get(name), value) for name, value in new.items()}}


def takes_defaults(stage: str) -> bool:
    """Return whether DVC tracks each entry of a stage's section on its own."""
    return stage not in SINGLE and stage not in TRACKED_WHOLE


def with_defaults(params: dict[str, Any]) -> dict[str, Any]:
    """Return the sections with every entry complete, and without the section `defaults`. `params` is unchanged."""
    defaults = params.get(DEFAULTS)
    found = {stage: section for stage, section in params.items() if stage != DEFAULTS}
    for stage, default in defaults.items() if isinstance(defaults, dict) else ():
        section = found.get(stage)
        if takes_defaults(stage) and isinstance(section, dict) and isinstance(default, dict):
            found[stage] = {
                name: overlay(default, entry) if isinstance(entry, dict) else entry for name, entry in section.items()
            }
    return found


def inherited(params: dict[str, Any], stage: str, name: str) -> dict[str, Any]:
    """Return the values that an entry takes from the defaults; empty if it takes none."""
    defaults = params.get(DEFAULTS)
    default = defaults.get(stage) if isinstance(defaults, dict) else None
    entry = params[stage][name]
    if not (takes_defaults(stage) and isinstance(default, dict) and isinstance(entry, dict)):
        return {}
    return _left_out(default, entry)


def _left_out(default: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for key, value in default.items():
        own = entry.get(key)
        if key not in entry:
            found[key] = copy.deepcopy(value)
        elif isinstance(value, dict) and isinstance(own, dict) and (inner := _left_out(value, own)):
            found[key] = inner
    return found


def default_faults(params: dict[str, Any]) -> Iterator[Fault]:
    """Find defaults of sections that have no named entries, or none that DVC tracks one by one."""
    defaults = params.get(DEFAULTS, {})
    if not isinstance(defaults, dict):
        yield Fault((DEFAULTS,), f"expected a section for each stage, got {defaults!r}")
        return
    stages = [stage for stage in params if takes_defaults(stage) and stage != DEFAULTS]
    for stage, default in defaults.items():
        if stage not in stages:
            near = did_you_mean(stage, stages) or f"; expected one of {', '.join(stages)}"
            yield Fault((DEFAULTS, stage), f"its entries take no defaults{near}")
        elif not isinstance(default, dict):
            yield Fault((DEFAULTS, stage), f"expected keys of an entry, got {default!r}")
