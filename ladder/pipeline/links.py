"""links.yaml: the links of params.yaml that DVC's templates cannot express, as values that dvc.yaml loads.

DVC has no default for a missing key, cannot expand a list into dependencies, and cannot add entries. links.yaml
therefore holds

    grpo: {words: {entry: words, reward_model: base}}   the entry that DVC tracks, and keys that it leaves out
    sft: {words+1: {entry: words, parent: base, ...}}   replicas with other seeds (ladder/pipeline/seeds.py)
    merge_inputs: {ties/0: {model: sft/maths}, ...}     one entry for each parent of each merge
    rungs: {report: [sft/words, sft/words+1], ...}      the measured rungs of each table and list, with their replicas

`ladder check` writes the file. The stage `code`, which runs before all others, refuses one that does not
belong to params.yaml.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ladder.data.jsonl import write_text
from ladder.pipeline.seeds import LINK_KEYS, RUNGS, TABLES, TRACKED, Replicas, original, with_replicas
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
ENTRY = "entry"
MERGE_INPUTS = "merge_inputs"
LISTS = {"report" if table == "report" else key: (table, key) for table, keys in TABLES.items() for key in keys}
"""Keys in params.yaml of the lists in `rungs`: report, heldout, accuracy and divergence."""
BESIDE = {"accuracy": "data", "divergence": "teacher"}
"""Key of the section of that name with a reference whose replica is read beside a rung's replica."""
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
    replicas = Replicas(params)
    whole, found = with_replicas(params), dict[str, Any]()
    for stage in dict.fromkeys([*OPTIONAL, *TRACKED]):
        section = whole.get(stage)
        for name, entry in section.items() if isinstance(section, dict) else ():
            if isinstance(entry, dict) and (added := _added(stage, name, entry, written=name in params[stage])):
                found.setdefault(stage, {})[name] = added
    found[MERGE_INPUTS] = {name: {"model": rung} for name, _, rung in merge_inputs(whole)}
    listed = [name for name, (table, key) in LISTS.items() if key in replicas.section(table)]
    rungs: dict[str, Any] = {name: _measured(name, replicas) for name in listed}
    if "claims" in params:
        rungs["claims"] = replicas.rungs("claims")
    return {**found, RUNGS: rungs} if rungs else found


def _added(stage: str, name: str, entry: dict[str, Any], *, written: bool) -> dict[str, Any]:
    """Return the values of links.yaml for an entry; `written` is false for a replica, which params.yaml lacks."""
    own = {ENTRY: original(str(name))} if stage in TRACKED else {}
    absent = {key: DEFAULT for key in OPTIONAL.get(stage, ()) if key not in entry}
    if written:
        return {**own, **absent}
    return {**own, **{key: value for key, value in entry.items() if key in LINK_KEYS | {"method"}}, **absent}


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
    found = with_replicas(params)
    for stage, added in links(params).items():
        entries = found.get(stage) or {}
        found[stage] = {**entries, **{name: _joined(entries.get(name), entry) for name, entry in added.items()}}
    return found


def _joined(entry: Any, added: Any) -> Any:
    return {**entry, **added} if isinstance(entry, dict) else added


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
