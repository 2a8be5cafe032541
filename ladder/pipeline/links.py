"""links.yaml: the links of params.yaml that DVC's templates cannot express, as values that dvc.yaml loads.

DVC has no default for a missing key, cannot expand a list into dependencies, and cannot leave out a stage or compute
an entry. links.yaml therefore holds

    sft: {rank4: {parent: base, tracked: links.yaml}}   keys that an entry inherits (ladder/pipeline/defaults.py)
    sft: {words+1: {entry: words, data: ...}}           replicas with other seeds (ladder/pipeline/seeds.py)
    grpo: {words: {reward_model: base, ...}}            rungs that an entry leaves out
    rungs: {report: [sft/words, sft/words+1], ...}      the measured rungs of each table and list, with their replicas
    merge_inputs: {ties/0: {model: sft/maths}, ...}     one entry for each parent of each merge
    judged: {preferences/heldout: {}}                   pairs of the stage judge_reliability; {} without the stage

`tracked` names the file that holds an entry's remaining parameters: links.yaml, or params.yaml if there are none.
`entry` names the entry of params.yaml that a stage tracks: that of a replica, or the entry itself.

`ladder check` writes the file. The stage `code`, which runs before all others, refuses one that does not
belong to params.yaml.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ladder.data.jsonl import write_text
from ladder.pipeline.defaults import inherited, overlay, takes_defaults, with_defaults
from ladder.pipeline.seeds import LINK_KEYS, REPLICATED, RUNGS, TABLES, Replicas, original, with_replicas
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
LISTS = {"report" if table == "report" else key: (table, key) for table, keys in TABLES.items() for key in keys}
"""Keys in params.yaml of the lists in `rungs`: report, heldout, accuracy and divergence."""
BESIDE = {"accuracy": "data", "divergence": "teacher"}
"""Key of the section of that name with a reference whose replica is read beside a rung's replica."""
MERGE_INPUTS = "merge_inputs"
JUDGED = "judged"
TRACKED = "tracked"
"""Key of an entry in links.yaml: the file with the parameters that DVC tracks beside those of the entry itself."""
ENTRY = "entry"
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
    replicas, whole = Replicas(complete), with_replicas(complete)
    for stage, section in whole.items():
        if not (takes_defaults(stage) and isinstance(section, dict)):
            continue
        for name, entry in section.items():
            if isinstance(entry, dict):
                found.setdefault(stage, {})[name] = _added(params, stage, name, entry)
    found[MERGE_INPUTS] = {name: {"model": rung} for name, _, rung in merge_inputs(whole)}
    rungs: dict[str, Any] = {name: _measured(name, replicas) for name, (table, _) in LISTS.items() if table in params}
    if "claims" in params:
        rungs["claims"] = replicas.rungs("claims")
    return {**found, JUDGED: judged(params), **({RUNGS: rungs} if rungs else {})}


def _added(params: dict[str, Any], stage: str, name: Any, entry: dict[str, Any]) -> dict[str, Any]:
    """Return the values of links.yaml for a complete entry, or a replica, which params.yaml lacks."""
    made_of = original(str(name)) if name not in params[stage] else name
    taken = inherited(params, stage, made_of)
    own = {ENTRY: made_of} if stage in REPLICATED else {}
    absent = {key: DEFAULT for key in OPTIONAL.get(stage, ()) if key not in entry}
    named = taken if name == made_of else {key: entry[key] for key in entry if key in LINK_KEYS | {"method"}}
    return {**own, **named, **absent, TRACKED: LINKS.name if taken else PARAMS.name}


def _measured(name: str, replicas: Replicas) -> list[str] | dict[str, dict[str, Any]]:
    """Return the names of a list's rungs and their replicas, with the replica of the section's own reference."""
    table, key = LISTS[name]
    rungs = replicas.measured(table, replicas.listed(table, key))
    if name not in BESIDE:
        return list(rungs)
    value = replicas.section(name).get(BESIDE[name])
    return {rung: {BESIDE[name]: replicas.reference(value, number)} for rung, number in rungs.items()}


def with_links(params: dict[str, Any]) -> dict[str, Any]:
    """Return the values that dvc.yaml sees: params.yaml with the replicas of its entries, and links.yaml."""
    found = with_replicas(with_defaults(params))
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
