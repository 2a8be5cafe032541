"""links.yaml: the links of params.yaml that DVC's templates cannot express, as values that dvc.yaml loads.

DVC has no default for a missing key, cannot expand a list into dependencies, and cannot leave out a stage.
links.yaml therefore holds

    sft: {rank4: {parent: base, tracked: links.yaml}}   keys that an entry inherits (ladder/pipeline/defaults.py)
    grpo: {words: {reward_model: base, ...}}            rungs that an entry leaves out
    claims: {heldout: []}                               lists that the section `claims` leaves out
    merge_inputs: {ties/0: {model: sft/maths}, ...}     one entry for each parent of each merge
    judged: {preferences/heldout: {}}                   pairs of the stage judge_reliability; {} without the stage

`tracked` names the file that holds an entry's remaining parameters: links.yaml, or params.yaml if there are none.

`ladder check` writes the file. The stage `code`, which runs before all others, refuses one that does not
belong to params.yaml.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ladder.data.jsonl import write_text
from ladder.pipeline.defaults import inherited, overlay, takes_defaults, with_defaults
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
LISTS = {"claims": ("heldout", "accuracy", "divergence")}
"""Lists of a section that dvc.yaml reads; the default is empty."""
MERGE_INPUTS = "merge_inputs"
JUDGED = "judged"
TRACKED = "tracked"
"""Key of an entry in links.yaml: the file with the parameters that DVC tracks beside those of the entry itself."""
HEAD = f"# Written by `ladder check` from {PARAMS}; dvc.yaml reads it. Do not edit.\n"


def merge_inputs(params: dict[str, Any]) -> Iterator[tuple[str, Keys, Any]]:
    """Iterate over (name, keys in params.yaml, rung) of every parent of every merge: `ties/0` is the first of ties."""
    section = params.get("merge")
    for name, entry in section.items() if isinstance(section, dict) else ():
        parents = entry.get("parents") if isinstance(entry, dict) else None
        for place, rung in enumerate(parents if isinstance(parents, list) else []):
            yield f"{name}/{place}", ("merge", name, "parents", place), rung


def judged(params: dict[str, Any]) -> dict[str, Any]:
    """Return one entry for the pairs of the stage judge_reliability; {} if its section names none."""
    section = params.get("judge_reliability")
    data = section.get("data") if isinstance(section, dict) else None
    return {data: {}} if isinstance(data, str) else {}


def links(params: dict[str, Any]) -> dict[str, Any]:
    """Return the content of links.yaml for params.yaml as written, with its section `defaults`."""
    found: dict[str, Any] = {}
    complete = with_defaults(params)
    for stage, section in complete.items():
        if not (takes_defaults(stage) and isinstance(section, dict)):
            continue
        for name, entry in section.items():
            if isinstance(entry, dict):
                taken = inherited(params, stage, name)
                absent = {key: DEFAULT for key in OPTIONAL.get(stage, ()) if key not in entry}
                file = LINKS.name if taken else PARAMS.name
                found.setdefault(stage, {})[name] = {**taken, **absent, TRACKED: file}
    for stage, keys in LISTS.items():
        section = params.get(stage)
        if isinstance(section, dict) and (lacking := [key for key in keys if key not in section]):
            found[stage] = {key: [] for key in lacking}
    found[MERGE_INPUTS] = {name: {"model": rung} for name, _, rung in merge_inputs(complete)}
    return {**found, JUDGED: judged(params)}


def with_links(params: dict[str, Any]) -> dict[str, Any]:
    """Return the values that dvc.yaml sees: params.yaml together with links.yaml."""
    found = with_defaults(params)
    for stage, added in links(params).items():
        found[stage] = overlay(added, found.get(stage) or {})
    return found


def write_links(params: dict[str, Any], path: Path = LINKS) -> None:
    """Write links.yaml if it does not belong to `params`, the sections as written."""
    text = HEAD
    for section, entries in links(params).items():
        lines = [f"  {json.dumps(name)}: {json.dumps(entry)}\n" for name, entry in entries.items()]
        text += "".join([f"{section}:\n", *lines]) if lines else f"{section}: {{}}\n"
    if not path.is_file() or path.read_bytes() != text.encode():
        write_text(path, text)


def check_links(params: dict[str, Any], path: Path) -> None:
    """Check that a links.yaml belongs to `params`, the sections as written. Errors: UserError."""
    if read_yaml(path) != links(params):
        raise UserError(
            f"{path}: not the links of {PARAMS}; expected those that `ladder check` writes. Run it, then "
            "repeat this command"
        )
