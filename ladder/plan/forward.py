"""What would run again if one parameter or one file changed.

A stage runs again if it tracks the parameter, or reads the file, or imports it (code/*.txt), and every stage after it
whose input then differs. DVC stops where an output turns out to be the same, so this is the most that would run.
"""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ladder.pipeline.defaults import DEFAULTS, with_defaults
from ladder.pipeline.errors import UserError
from ladder.pipeline.links import links as pipeline_links
from ladder.pipeline.names import did_you_mean
from ladder.pipeline.stage import PARAMS
from ladder.plan.changes import Change, Reason
from ladder.plan.code_lists import CODE
from ladder.plan.expand import Stage, at, expand, links
from ladder.plan.recorded import flat

Direct = dict[str, Reason]
"""Stages that a change reaches at once, with the reason."""


def forward(target: str, params: dict[str, Any]) -> dict[str, Change]:
    """Return the stages that would run again after a change of `target`, in running order.

    target: a parameter (`params.yaml:sft.words.trainer.seed` or `sft.words.trainer.seed`), or a path. params: the
    sections as written, with the section `defaults`. Errors: UserError for a parameter or path that nothing reads.
    """
    stages = expand(params)
    file, mark, key = target.partition(":")
    is_param = mark and file == PARAMS.name or not mark and not Path(target).exists() and "/" not in target
    direct = by_param(key or target, params, stages) if is_param else by_path(target.removeprefix("./"), stages)
    graph = links(stages)
    found: dict[str, Change] = {}
    for name, stage in stages.items():
        above = [each for each in graph.predecessors(name) if each in found and each != CODE]
        reasons = [*([direct[name]] if name in direct else []), *(Reason("upstream", each) for each in above)]
        if reasons and not stage.frozen:
            found[name] = Change(stage, tuple(reasons))
    return found


def by_param(key: str, params: dict[str, Any], stages: dict[str, Stage]) -> Direct:
    """Return the stages that track a parameter, or inherit it. Errors: UserError for an unknown parameter."""
    complete = with_defaults(params)
    if at(params, key) is None and at(complete, key) is None and not _holds(params, key) and not _holds(complete, key):
        known = [name for section, content in {**params, **complete}.items() for name, _ in flat(content, str(section))]
        raise UserError(f"{PARAMS}: {key}: no such key{did_you_mean(key, known)}; expected one of params.yaml")
    changed = _changed(params, key) if _holds(params, key) else params
    linked, linked_then = pipeline_links(params), pipeline_links(changed)
    found = {}
    for name, stage in stages.items():
        tracked = any(_covers(each, key) for each in stage.params)
        inherits = any(at(linked, each) != at(linked_then, each) for each in stage.linked)
        if tracked or inherits:
            found[name] = Reason("param", key if tracked else f"{key} (inherited)")
    if not found and not key.startswith(DEFAULTS):
        raise UserError(f"{PARAMS}: {key}: no stage tracks it; expected a key of a section that a stage reads")
    return found


def _covers(tracked: str, key: str) -> bool:
    return tracked == key or key.startswith(f"{tracked}.") or tracked.startswith(f"{key}.")


def _holds(params: dict[str, Any], key: str) -> bool:
    """Whether params.yaml has a key, also with the value null."""
    above, _, last = key.rpartition(".")
    section = at(params, above) if above else params
    return isinstance(section, dict) and last in section


def _changed(params: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the sections with another value, or other values, at a key."""
    made = copy.deepcopy(params)
    above, _, last = key.rpartition(".")
    section = at(made, above) if above else made
    section[last] = _other(section[last])
    return made


def _other(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _other(each) for key, each in value.items()}
    if isinstance(value, bool) or value is None:
        return not value
    return value + 1 if isinstance(value, int | float) else [] if isinstance(value, list) else f"{value}~"


def by_path(path: str, stages: dict[str, Stage]) -> Direct:
    """Return the stages that read a file or folder, or import it. Errors: UserError for a path that none does."""
    path = path.rstrip("/")
    imported = CODE in stages and any(_overlap(dep, path) for dep in stages[CODE].deps)
    if imported and not any(Path(CODE).rglob("*.txt")):
        raise UserError(f"{path}: {CODE}/ is not here; expected the lists of imported files. Run `ladder check`")
    found = {}
    for name, stage in stages.items():
        if name != CODE and any(_overlap(dep, path) for dep in stage.deps):
            found[name] = Reason("file", f"reads {path}")
    lists = list(code_lists(path))
    for name, stage in stages.items():
        listed = [dep for dep in stage.deps if dep in lists or any(each.startswith(f"{dep}/") for each in lists)]
        if listed and name not in found:
            found[name] = Reason("code", f"{path}, in {', '.join(listed)}")
    if found:
        return found
    known = [each for stage in stages.values() for each in (*stage.deps, *stage.outs)]
    if not Path(path).exists():
        raise UserError(f"{path}: no such file{did_you_mean(path, known)}; expected a path, or a key of {PARAMS}")
    return {}


def _overlap(dep: str, path: str) -> bool:
    return dep == path or path.startswith(f"{dep}/") or dep.startswith(f"{path}/")


def code_lists(path: str) -> Iterator[str]:
    """Iterate over the code lists that name a file, or a file in a folder."""
    for place in sorted(Path(CODE).rglob("*.txt")):
        lines = place.read_text(encoding="utf-8").splitlines()
        listed = (line.partition("  ")[2] for line in lines)
        if any(each == path or each.startswith(f"{path}/") for each in listed):
            yield place.as_posix()
