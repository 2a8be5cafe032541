"""The graph of stages as dvc.lock records it: what made each output, from which inputs and values."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

import networkx

from ladder.pipeline.links import LINKS
from ladder.pipeline.stage import PARAMS
from ladder.plan.expand import Stage, links

BOOKKEEPING = frozenset({"tracked", "entry"})
"""Keys of links.yaml that say where values are, and are no values."""


@dataclass(frozen=True)
class Value:
    """Value of a parameter, as dvc.lock records it."""

    key: str
    """`sft.words.trainer.learning_rate`."""
    value: Any
    file: str
    """params.yaml, or links.yaml for a value that the entry inherits."""


def values(entry: dict[str, Any]) -> list[Value]:
    """Return the values that an entry of dvc.lock records, one for each number, text or list."""
    found = []
    for file in (PARAMS.name, LINKS.name):
        for key, content in ((entry.get("params") or {}).get(file) or {}).items():
            for name, value in flat(content, key):
                if file == PARAMS.name or name.removeprefix(f"{key}.") not in BOOKKEEPING:
                    found.append(Value(name, value, file))
    return found


def flat(content: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Iterate over (key, value) of all values in nested sections; an empty section is a value."""
    if not isinstance(content, dict) or not content:
        yield prefix, content
        return
    for key, value in content.items():
        yield from flat(value, f"{prefix}.{key}")


class Recorded:
    """The entries of a dvc.lock as a graph of stages."""

    def __init__(self, lock: dict[str, Any]) -> None:
        self.lock = lock
        self.stages = {name: _stage(name, entry) for name, entry in lock.items()}
        self.makers = {out: name for name, stage in self.stages.items() for out in stage.outs}

    @cached_property
    def graph(self) -> "networkx.DiGraph[str]":
        """Edges from each stage to those that read one of its outputs."""
        return links(self.stages)

    def maker(self, path: str) -> str | None:
        """Return the stage whose output is this path or a folder around it; None if no stage recorded it."""
        places = (path, *map(str, PurePosixPath(path).parents))
        return next((self.makers[place] for place in places if place in self.makers), None)

    def makers_inside(self, path: str) -> list[str]:
        """Return the stages whose outputs are in a folder."""
        return list(dict.fromkeys(maker for out, maker in self.makers.items() if out.startswith(f"{path}/")))

    def makes(self, path: str) -> bool:
        """Whether a recorded stage made a path, a folder around it or a file in it."""
        return self.maker(path) is not None or bool(self.makers_inside(path))

    def upstream(self, name: str) -> set[str]:
        """Return a stage and all stages that it is made of."""
        return {name, *networkx.ancestors(self.graph, name)}

    def values_of(self, path: str) -> dict[str, Any]:
        """Return {key: value} of all parameters that an output depends on; empty if no stage recorded it."""
        name = self.maker(path)
        names = self.upstream(name) if name else ()
        return {each.key: each.value for one in self.stages if one in names for each in values(self.lock[one])}

    def outputs_inside(self, path: str) -> list[str]:
        """Return the recorded outputs in a folder."""
        return [out for out in self.makers if out.startswith(f"{path}/")]

    def output_of(self, path: str) -> dict[str, Any]:
        """Return the record of an output: path, md5, size, nfiles."""
        found: dict[str, Any] = next(out for out in self.lock[self.makers[path]]["outs"] if out["path"] == path)
        return found


def _stage(name: str, entry: dict[str, Any]) -> Stage:
    params = entry.get("params") or {}
    return Stage(
        name=name,
        kind=name.partition("@")[0],
        cmd=str(entry.get("cmd", "")),
        deps=tuple(dict.fromkeys(dep["path"] for dep in entry.get("deps") or ())),
        outs=tuple(out["path"] for out in entry.get("outs") or ()),
        params=tuple(params.get(PARAMS.name) or ()),
        linked=tuple(params.get(LINKS.name) or ()),
    )
