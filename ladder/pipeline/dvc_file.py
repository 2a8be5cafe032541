"""dvc.yaml read as data: which values of params.yaml each of its interpolations takes."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ladder.pipeline.stage import read_yaml
from ladder.pipeline.yaml_lines import Keys

PIPELINE = Path("dvc.yaml")
INTERPOLATION = re.compile(r"\$\{([^}]+)\}")


def read_pipeline() -> dict[str, Any]:
    """The stanzas of dvc.yaml by stage."""
    stanzas: dict[str, Any] = read_yaml(PIPELINE)["stages"]
    return stanzas


def body(stanza: dict[str, Any]) -> dict[str, Any]:
    """A stanza without its `foreach`: `cmd`, `deps`, `outs` and the rest."""
    found: dict[str, Any] = stanza.get("do", stanza)
    return found


def has_entries(stage: str, stanza: dict[str, Any]) -> bool:
    """Whether a stage's section holds named entries: then its stanza tracks one of them, `sft.${key}`."""
    return stage not in body(stanza).get("params", [stage])


def parts(expression: str) -> list[str | int]:
    """The keys of an interpolation: `item.parents[0]` is item, parents, 0."""
    keys = re.findall(r"[^.\[\]]+", expression)
    return [int(key) if key.isdecimal() else key for key in keys]


def values(expression: str, stanza: dict[str, Any], params: dict[str, Any]) -> Iterator[tuple[Keys, Any]]:
    """(keys in params.yaml, value) of everything that `${expression}` stands for in a stanza.

    An entry's name has the keys of its entry. Values that are not in params.yaml are left out.
    """
    keys = parts(expression)
    if keys[0] == "item" and "matrix" in stanza:
        axis = parts(INTERPOLATION.findall(stanza["matrix"][keys[1]])[0])
        content = _at(params, axis)
        if isinstance(content, dict):
            yield from (((*axis, name), name) for name in content)
        elif isinstance(content, list):
            yield from (((*axis, place), element) for place, element in enumerate(content))
    elif keys[0] in ("item", "key") and "foreach" in stanza:
        over = parts(INTERPOLATION.findall(stanza["foreach"])[0])
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


def origins(path: str, template: str, stanza: dict[str, Any], params: dict[str, Any]) -> Iterator[Keys]:
    """The keys of params.yaml whose values make `path` of a template such as `models/${item.parent}`."""
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
