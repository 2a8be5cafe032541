"""Expand dvc.yaml with the values of params.yaml into stages, without importing DVC.

A test compares the result with DVC's own index: names, commands, dependencies, outputs and tracked parameters.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import networkx
import yaml

from ladder.pipeline.defaults import with_defaults
from ladder.pipeline.dvc_file import INTERPOLATION, body, parts, read_pipeline
from ladder.pipeline.errors import UserError
from ladder.pipeline.links import LINKS, with_links
from ladder.pipeline.seeds import MARK
from ladder.pipeline.stage import PARAMS

LOCK = Path("dvc.lock")


@dataclass(frozen=True)
class Stage:
    """One stage as DVC runs it: `sft@words`."""

    name: str
    """Address of the stage: `base`, `sft@words`, `benchmark@ifeval-sft/words`."""
    kind: str
    """Name in dvc.yaml: `sft`."""
    cmd: str
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    """Outputs, metrics and plots."""
    params: tuple[str, ...]
    """Tracked keys of params.yaml."""
    linked: tuple[str, ...] = ()
    """Tracked keys of links.yaml, with the values that an entry inherits."""
    uncached: frozenset[str] = frozenset()
    """Outputs that git keeps (`cache: false`)."""
    always: bool = False
    frozen: bool = False
    values: dict[str, Any] = field(default_factory=dict, compare=False)
    """The entry of params.yaml that this stage tracks first; empty if it tracks none, or a value that is no section."""


class CoreLoader(yaml.CSafeLoader):
    """libyaml's parser with the scalars of YAML 1.2, which DVC writes: `1e-05` is a number and `no` a text."""


CoreLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
):
    CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), list(_first) + [""])


def read_lock(path: Path = LOCK) -> dict[str, Any]:
    """Return the entries of dvc.lock by stage name; empty if there is no dvc.lock.

    Errors: UserError for a file that cannot be read.
    """
    if not path.is_file():
        return {}
    try:
        return parse_lock(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not YAML: {error}; `ladder doctor --fix` restores it") from None


def parse_lock(text: str, where: str) -> dict[str, Any]:
    """Return the entries in the text of a dvc.lock by stage name. Errors: UserError, which names `where`."""
    try:
        found = yaml.load(text, CoreLoader)
    except (yaml.YAMLError, ValueError) as error:
        reported = " ".join(str(error).split())
        raise UserError(f"{where}: not YAML: {reported}; `ladder doctor --fix` restores it") from None
    entries = found.get("stages") if isinstance(found, dict) else None
    if not isinstance(entries, dict):
        raise UserError(f"{where}: expected entries under `stages`; `ladder doctor --fix` restores it")
    return {name: entry for name, entry in entries.items() if isinstance(entry, dict)}


def expand(params: dict[str, Any]) -> dict[str, Stage]:
    """Return every stage of dvc.yaml by its name, in an order in which they can run.

    params: the sections as written, with the section `defaults`.

    Errors: UserError for a value that params.yaml lacks, and for a cycle.
    """
    seen, complete = with_links(params), with_defaults(params)
    made = [stage for kind, stanza in read_pipeline().items() for stage in _stages(kind, stanza, seen, complete)]
    stages = {stage.name: stage for stage in made}
    graph = links(stages)
    try:
        return {name: stages[name] for name in networkx.lexicographical_topological_sort(graph, _order(stages))}
    except networkx.NetworkXUnfeasible:
        cycle = " -> ".join(name for name, _ in networkx.find_cycle(graph))
        raise UserError(f"params.yaml: a rung is its own ancestor: look at the parents of {cycle}") from None


def _order(stages: dict[str, Stage]) -> Any:
    places = {name: f"{place:06}" for place, name in enumerate(stages)}
    return lambda name: places[name]


def links(stages: dict[str, Stage]) -> "networkx.DiGraph[str]":
    """Return the graph of stages, with an edge from each stage to those that depend on one of its outputs."""
    graph: networkx.DiGraph[str] = networkx.DiGraph()
    graph.add_nodes_from(stages)
    makers = {out: stage.name for stage in stages.values() for out in stage.outs}
    inside: dict[str, set[str]] = {}
    for out, name in makers.items():
        for folder in Path(out).parents:
            inside.setdefault(str(folder), set()).add(name)
    for stage in stages.values():
        for path in stage.deps:
            above = {makers[str(each)] for each in (Path(path), *Path(path).parents) if str(each) in makers}
            graph.add_edges_from((maker, stage.name) for maker in above | inside.get(path, set()))
    return graph


def _stages(kind: str, stanza: dict[str, Any], seen: dict[str, Any], params: dict[str, Any]) -> Iterator[Stage]:
    """Stages of a stanza: templates read `seen`, params.yaml with its links; `values` are those of `params`."""
    for suffix, scope in _scopes(kind, stanza, seen):
        made = _stage(f"{kind}@{suffix}" if suffix else kind, kind, body(stanza), {**seen, **scope}, params)
        replica = seen[kind].get(suffix) if MARK in suffix and kind in seen else None
        yield made if replica is None else replace(made, values=replica)


def _scopes(kind: str, stanza: dict[str, Any], params: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Iterate over (suffix of the name, values of `key` and `item`) of a stanza's entries."""
    if "foreach" in stanza:
        over = _filled(stanza["foreach"], params, kind)
        if isinstance(over, dict):
            yield from ((str(key), {"key": key, "item": item}) for key, item in over.items())
        else:
            yield from ((str(item), {"item": item}) for item in over or ())
    elif "matrix" in stanza:
        axes = {name: list(_filled(axis, params, kind) or ()) for name, axis in stanza["matrix"].items()}
        for chosen in itertools.product(*axes.values()):
            yield "-".join(map(str, chosen)), {"item": dict(zip(axes, chosen, strict=True))}
    else:
        yield "", {}


def _stage(name: str, kind: str, one: dict[str, Any], scope: dict[str, Any], params: dict[str, Any]) -> Stage:
    def texts(key: str) -> list[tuple[str, dict[str, Any]]]:
        listed = _filled(one.get(key, []), scope, name)
        flat = itertools.chain.from_iterable(each if isinstance(each, list) else [each] for each in listed)
        return [
            (path, settings or {})
            for each in flat
            for path, settings in (each.items() if isinstance(each, dict) else [(str(each), {})])
        ]

    outs = [pair for key in ("outs", "metrics", "plots") for pair in texts(key)]
    command = _filled(one["cmd"], scope, name)
    tracked, linked = _tracked(_filled(one.get("params", []), scope, name))
    return Stage(
        name=name,
        kind=kind,
        cmd=command if isinstance(command, str) else "\n".join(command),
        deps=tuple(path for path, _ in texts("deps")),
        outs=tuple(path for path, _ in outs),
        params=tracked,
        linked=linked,
        uncached=frozenset(path for path, settings in outs if settings.get("cache") is False),
        always=bool(one.get("always_changed")),
        frozen=bool(one.get("frozen")),
        values=_section(params, tracked),
    )


def _tracked(listed: list[Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the tracked keys of params.yaml, and those of links.yaml."""
    found: dict[str, list[str]] = {PARAMS.name: [], LINKS.name: []}
    for each in listed:
        for file, keys in (each if isinstance(each, dict) else {PARAMS.name: [each]}).items():
            found[file] += keys
    return tuple(dict.fromkeys(found[PARAMS.name])), tuple(dict.fromkeys(found[LINKS.name]))


def _section(params: dict[str, Any], tracked: tuple[str, ...]) -> dict[str, Any]:
    found = at(params, tracked[0]) if tracked else None
    return found if isinstance(found, dict) else {}


def at(params: dict[str, Any], key: str) -> Any:
    """Return the value of a tracked key, `sft.words`, as DVC splits it; None if params.yaml lacks it."""
    found: Any = params
    for part in key.split("."):
        if not isinstance(found, dict) or part not in found:
            return None
        found = found[part]
    return found


def _filled(template: Any, scope: dict[str, Any], where: str) -> Any:
    """Replace each `${…}`; a text that is one interpolation gives the value itself."""
    if isinstance(template, list):
        return [_filled(each, scope, where) for each in template]
    if isinstance(template, dict):
        return {_filled(key, scope, where): _filled(value, scope, where) for key, value in template.items()}
    if not isinstance(template, str):
        return template
    if found := INTERPOLATION.fullmatch(template):
        return _value(found[1], scope, where)
    return INTERPOLATION.sub(lambda found: _text(_value(found[1], scope, where), found[1], where), template)


def _value(expression: str, scope: dict[str, Any], where: str) -> Any:
    found: Any = scope
    for key in parts(expression):
        inside = isinstance(found, dict) and key in found
        if not inside and not (isinstance(found, list) and isinstance(key, int) and key < len(found)):
            raise UserError(f"dvc.yaml: {where}: ${{{expression}}} is not in params.yaml; expected a value. Add it")
        found = found[key]
    return found


def _text(value: Any, expression: str, where: str) -> str:
    if isinstance(value, dict | list) or value is None:
        raise UserError(
            f"dvc.yaml: {where}: ${{{expression}}}: expected a text or a number, got {type(value).__name__}"
        )
    return str(value).lower() if isinstance(value, bool) else str(value)
