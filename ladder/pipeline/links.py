"""links.yaml: the links of params.yaml that DVC's templates cannot express, as values that dvc.yaml loads.

DVC has no default for a missing key, and cannot expand a list into dependencies. links.yaml therefore holds

    grpo: {words: {reward_model: base}}               keys that an entry of params.yaml leaves out
    merge_inputs: {ties/0: {model: sft/maths}, ...}   one entry for each parent of each merge

`ladder check` writes the file. The stage `code`, which runs before all others, refuses one that does not
belong to params.yaml.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ladder.data.jsonl import write_text
from ladder.pipeline.stage import PARAMS, UserError, read_yaml
from ladder.pipeline.yaml_lines import Keys

LINKS = Path("links.yaml")
DEFAULT = "base"
OPTIONAL = {
    "synthesize": ("model",),
    "generate": ("model",),
    "filter": ("model",),
    "preferences": ("model", "ranker"),
    "grpo": ("reward_model",),
    "rloo": ("reward_model",),
    "ppo": ("reward_model",),
}
"""Keys of an entry that name a rung which not every entry uses. The default is DEFAULT, as in the stage's Params."""
MERGE_INPUTS = "merge_inputs"
HEAD = f"# Written by `ladder check` from {PARAMS}; dvc.yaml reads it. Do not edit.\n"


def merge_inputs(params: dict[str, Any]) -> Iterator[tuple[str, Keys, Any]]:
    """Iterate over (name, keys in params.yaml, rung) of every parent of every merge: `ties/0` is the first of ties."""
    section = params.get("merge")
    for name, entry in section.items() if isinstance(section, dict) else ():
        parents = entry.get("parents") if isinstance(entry, dict) else None
        for place, rung in enumerate(parents if isinstance(parents, list) else []):
            yield f"{name}/{place}", ("merge", name, "parents", place), rung


def links(params: dict[str, Any]) -> dict[str, Any]:
    """Return the content of links.yaml for the sections of params.yaml."""
    found: dict[str, Any] = {}
    for stage, keys in OPTIONAL.items():
        section = params.get(stage)
        for name, entry in section.items() if isinstance(section, dict) else ():
            absent = {key: DEFAULT for key in keys if isinstance(entry, dict) and key not in entry}
            if absent:
                found.setdefault(stage, {})[name] = absent
    return {**found, MERGE_INPUTS: {name: {"model": rung} for name, _, rung in merge_inputs(params)}}


def with_links(params: dict[str, Any]) -> dict[str, Any]:
    """Return the values that dvc.yaml sees: params.yaml together with links.yaml."""
    found = dict(params)
    for stage, added in links(params).items():
        entries = params.get(stage) or {}
        found[stage] = {**entries, **{name: {**entries.get(name, {}), **entry} for name, entry in added.items()}}
    return found


def write_links(params: dict[str, Any], path: Path = LINKS) -> None:
    """Write links.yaml if it does not belong to `params`."""
    text = HEAD
    for section, entries in links(params).items():
        lines = [f"  {json.dumps(name)}: {json.dumps(entry)}\n" for name, entry in entries.items()]
        text += "".join([f"{section}:\n", *lines]) if lines else f"{section}: {{}}\n"
    if not path.is_file() or path.read_bytes() != text.encode():
        write_text(path, text)


def check_links(params: dict[str, Any], path: Path) -> None:
    """Check that a links.yaml belongs to `params`. Errors: UserError."""
    if read_yaml(path) != links(params):
        raise UserError(
            f"{path}: not the links of {PARAMS}; expected those that `ladder check` writes. Run it, then "
            "repeat this command"
        )
