"""Read dvc.yaml as data and resolve its interpolations to values of params.yaml."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ladder.pipeline.links import JUDGED, LISTS, MERGE_INPUTS, judged, merge_inputs
from ladder.pipeline.seeds import RUNGS
from ladder.pipeline.stage import read_yaml
from ladder.pipeline.yaml_lines import Keys

PIPELINE = Path("dvc.yaml")
INTERPOLATION = re.compile(r"\$\{([^}]+)\}")


def read_pipeline() -> dict[str, Any]:
    """Return the stanzas of dvc.yaml by stage name."""
    stanzas: dict[str, Any] = read_yaml(PIPELINE)["stages"]
    return stanzas


def body(stanza: dict[str, Any]) -> dict[str, Any]:
    """Return a stanza without its `foreach`: `cmd`, `deps`, `outs` and so on."""
    found: dict[str, Any] = stanza.get("do", stanza)
    return found


def has_entries(stage: str, stanza: dict[str, Any]) -> bool:
    """Return whether a stage's section holds named entries.

    Its stanza then tracks one of them, such as `sft.${key}`.
    """
    return stage not in body(stanza).get("params", [stage])


def parts(expression: str) -> list[str | int]:
    """Split an interpolation into keys: `item.parents[0]` becomes item, parents, 0."""
    keys = re.findall(r"[^.\[\]]+", expression)
    return [int(key) if key.isdecimal() else key for key in keys]


def values(expression: str, stanza: dict[str, Any], params: dict[str, Any]) -> Iterator[tuple[Keys, Any]]:
    """Iterate over (keys in params.yaml, value) for all values that `${expression}` takes in a stanza.

    An entry's name has the keys of its entry. Values that are not in params.yaml are skipped.
    """
    keys = parts(expression)
    if keys[0] == "item" and "matrix" in stanza:
        axis = _written(parts(INTERPOLATION.findall(stanza["matrix"][keys[1]])[0]))
        content = _at(params, axis)
        if isinstance(content, dict):
            yield from (((*axis, name), name) for name in content)
        elif isinstance(content, list):
            yield from (((*axis, place), element) for place, element in enumerate(content))
    elif keys[0] in ("item", "key") and "foreach" in stanza:
        over = parts(INTERPOLATION.findall(stanza["foreach"])[0])
        if over == [MERGE_INPUTS]:
            yield from ((at, name if keys[0] == "key" else rung) for name, at, rung in merge_inputs(params))
            return
        if over[0] == RUNGS and keys[0] == "item":
            yield from values(f"{over[1]}.{keys[1]}", {}, params)  # the reference beside the rung: accuracy.data
            return
        if over == [JUDGED]:
            yield from ((("judge_reliability", "data"), name) for name in judged(params))
            return
        over = _written(over)
        content = _at(params, over)
        if isinstance(content, list):
            yield from (((*over, place), element) for place, element in enumerate(content))
        elif isinstance(content, dict):
            for name, entry in content.items():
                found = name if keys[0] == "key" else _at(entry, keys[1:])
                if found is not None:
                    yield (*over, name, *keys[1:]), found
    elif (found := _at(params, keys)) is not None:
        yield keys, found


def _written(keys: list[str | int]) -> list[str | int]:
    """Return the keys in params.yaml of a list of rungs that links.yaml holds with their replicas."""
    return list(LISTS[str(keys[1])]) if keys[0] == RUNGS else keys


def origins(path: str, template: str, stanza: dict[str, Any], params: dict[str, Any]) -> Iterator[Keys]:
    """Find the keys of params.yaml whose values expand a template such as `models/${item.parent}` to `path`."""
    expressions = INTERPOLATION.findall(template)
    for expression in expressions[:1]:
        for keys, value in values(expression, stanza, params):
            if template.replace(f"${{{expression}}}", str(value)) == path:
                yield keys


def _at(content: Any, keys: Keys) -> Any:
    for key in keys:
        inside = isinstance(content, dict) and key in content
        inside = inside or (isinstance(content, list) and isinstance(key, int) and key < len(content))
        if not inside:
            return None
        content = content[key]
    return content
