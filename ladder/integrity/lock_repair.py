"""Restore lost entries of dvc.lock from the backup copy and from git's HEAD.

A complete entry of dvc.lock is never changed, because it is newer. A missing or truncated entry is restored if its
outputs on disk or in DVC's cache still have the recorded hashes. It is also restored if they are absent on disk, as in
a fresh clone. In a merge conflict, the side whose outputs are present is used.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from dvc.dvcfile import load_file
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.schema import COMPILED_LOCK_FILE_STAGE_SCHEMA
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from voluptuous import Invalid

from ladder.data.atomic_write import whole
from ladder.integrity.dvc_hashes import is_cached, output_md5
from ladder.integrity.lock_copy import COPY, references
from ladder.integrity.lock_file import HEAD, LOCK, MARKER, LockText, decoded, is_cut, split
from ladder.pipeline.stage import UserError

DAMAGED = COPY.with_name("dvc.lock.damaged")
"""Where the original of a repaired dvc.lock is saved."""
State = Literal["here", "cached", "absent", "other"]
"""State of an entry's outputs: on disk, in the cache, in neither, or replaced on disk by other content."""


def pipeline_outputs(repo: Repo) -> dict[str, list[str]]:
    """Outputs of each stage of dvc.yaml, by stage name. Unlike DVC's index, this does not read dvc.lock."""
    stanzas: dict[str, Any] = load_file(repo, "dvc.yaml").resolver.resolve()["stages"]
    kinds = ("outs", "metrics", "plots")
    return {
        name: [out if isinstance(out, str) else next(iter(out)) for kind in kinds for out in stanza.get(kind) or []]
        for name, stanza in stanzas.items()
    }


def is_valid(entry: Any) -> bool:
    """Whether DVC accepts a parsed entry."""
    try:
        COMPILED_LOCK_FILE_STAGE_SCHEMA(entry)
    except Invalid:
        return False
    return True


def parsed_entry(text: str) -> dict[str, Any] | None:
    """Parse an entry into a mapping; None if it is not exactly one entry that DVC accepts."""
    try:
        entries = YAML(typ="safe", pure=True).load(f"stages:\n{text}")["stages"]
    except YAMLError:
        return None
    entry = next(iter(entries.values()), None) if isinstance(entries, dict) and len(entries) == 1 else None
    return entry if is_valid(entry) else None


def repair() -> list[str]:
    """Restore missing and truncated entries of dvc.lock in one atomic write. Returns one line per affected stage.

    Errors: UserError when dvc.yaml or params.yaml cannot be read.
    """
    content = LOCK.read_bytes() if LOCK.exists() else b""
    sides = [split(side) for side in both_sides(decoded(content))]
    elsewhere = references()
    try:
        with Repo() as repo:
            names, cache = pipeline_outputs(repo), Path(repo.cache.local.path)
    except DvcException as error:
        raise UserError(f"{LOCK}: not restored: {' '.join(str(error).split())}. Correct that first.") from None
    report: list[str] = []
    chosen: dict[str, str] = {}
    for name in _order([*(side.entries for side in sides), *elsewhere.values()]):
        own = list(dict.fromkeys(side.entries[name] for side in sides if name in side.entries))
        found = {place: entries[name] for place, entries in elsewhere.items() if name in entries}
        own = [text for text in own if is_whole(text, found.values())]
        if len(own) == 1:
            chosen[name] = _closed(own[0])
        elif name in names and (own or found):
            candidates = {**{f"side {number} of the conflict": text for number, text in enumerate(own, 1)}, **found}
            place, state = _best(candidates, cache)
            if state == "other" and not own:
                report.append(f"{name}: not restored, because its outputs have changed. `dvc repro` makes it again.")
            else:
                chosen[name] = _closed(candidates[place])
                report.append(f"{name}: restored from {place}")
        elif own:
            chosen[name] = _closed(own[0])
        elif name in names:
            report.append(f"{name}: removed, because its lines are truncated everywhere. `dvc repro` makes it again.")
    text = LockText(_head(sides[0]), chosen, sides[0].tail).text
    if text.encode() != content:
        if content:
            _write(DAMAGED, content)
        _write(LOCK, text.encode())
    return report


def is_whole(text: str, elsewhere: Iterable[str]) -> bool:
    """Whether an entry of dvc.lock is complete, judged by the same entry elsewhere."""
    others = list(elsewhere)
    ended = text.endswith("\n") or any(text == other.rstrip("\n") for other in others)
    return ended and parsed_entry(text) is not None and not any(is_cut(text, other) for other in others)


def both_sides(text: str) -> list[str]:
    """The two files of a merge conflict; one file if there is no conflict."""
    if not MARKER.search(text):
        return [text]
    ours, theirs, kept = [], [], {"ours", "theirs"}
    for line in text.splitlines(keepends=True):
        marker = MARKER.fullmatch(line.rstrip("\n"))
        if marker:
            kept = {"<": {"ours"}, "|": set(), "=": {"theirs"}, ">": {"ours", "theirs"}}[line[0]]
            continue
        ours += [line] if "ours" in kept else []
        theirs += [line] if "theirs" in kept else []
    return ["".join(ours), "".join(theirs)]


def _order(found: list[dict[str, str]]) -> list[str]:
    """All names in the order of the longest list, because a truncated file has lost its end."""
    longest = max(found, key=len, default={})
    return list(dict.fromkeys([*longest, *(name for entries in found for name in entries)]))


def _best(candidates: dict[str, str], cache: Path) -> tuple[str, State]:
    """(location, state) of the entry with the best state of its outputs; the first among equals."""
    order: list[State] = ["here", "cached", "absent", "other"]
    states = {place: outputs_state(text, cache) for place, text in candidates.items()}
    place = min(states, key=lambda place: order.index(states[place]))
    return place, states[place]


def outputs_state(text: str, cache: Path) -> State:
    """State of the outputs that an entry records: the first of other, absent, cached and here that occurs."""
    states: set[State] = set()
    for out in (parsed_entry(text) or {}).get("outs") or []:
        path, expected = Path(str(out.get("path"))), str(out.get("md5"))
        if path.exists() and output_md5(path) == expected:
            states.add("here")
        elif is_cached(cache, expected):
            states.add("cached")
        else:
            states.add("other" if path.exists() else "absent")
    for state in ("other", "absent", "cached"):
        if state in states:
            return state
    return "here"


def _closed(text: str) -> str:
    return text.rstrip() + "\n"


def _head(side: LockText) -> str:
    """Text before the first entry; DVC's default if the file has none."""
    head = re.sub(r"^stages:.*$", "stages:", side.head, flags=re.MULTILINE)
    return head if head.endswith("stages:\n") and "schema:" in head else HEAD


def _write(path: Path, content: bytes) -> None:
    with whole(path) as file:
        file.write(content)
