"""dvc.lock as text: its entries, what makes it unreadable, and which entries are missing or cut.

DVC writes dvc.lock in place. A kill while it does leaves a shorter file, which is often still valid YAML, and its other
stages count as never run. Entries are compared with those of the copy (ladder/integrity/lock_copy.py) and of git's
HEAD.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOCK = Path("dvc.lock")
HEAD = "schema: '2.0'\nstages:\n"
ENTRY = re.compile(r"  (?:\? (?P<long>\S.*)|(?P<name>[^\s#?:-].*?):)[ \t]*")
"""The first line of an entry; ruamel.yaml writes keys of more than 128 characters with a question mark."""
MARKER = re.compile(r"^(<{7}|={7}|>{7}|\|{7})( .*)?$", re.MULTILINE)
"""A line that git writes around the two sides of a merge conflict."""
FIX = "`python -m ladder doctor --fix` restores it"


@dataclass(frozen=True)
class LockText:
    """The text of dvc.lock by entry."""

    head: str
    """What comes before the first entry: the schema, data sets."""
    entries: dict[str, str]
    """The lines of each stage's entry, by the stage's name."""
    tail: str
    """What comes after the last entry."""

    @property
    def text(self) -> str:
        return self.head + "".join(self.entries.values()) + self.tail


def split(text: str) -> LockText:
    """The entries of a dvc.lock as DVC writes it. Nothing is parsed: that takes seconds."""
    head, tail, inside = "", "", False
    entries: dict[str, str] = {}
    name = None
    for line in text.splitlines(keepends=True):
        if line[:1] not in (" ", "\n", "#", ""):
            inside, name = line.startswith("stages:"), None
        begins = ENTRY.fullmatch(line.rstrip("\n")) if inside else None
        if begins:
            name = (begins["name"] or begins["long"]).strip("'\"")
            entries[name] = line
        elif name is not None:
            entries[name] += line
        elif entries:
            tail += line
        else:
            head += line
    return LockText(head, entries, tail)


def decoded(content: bytes) -> str:
    """The text up to the first byte that is no text: a file whose end was never written to disk ends in NUL bytes."""
    return content.decode("utf-8", "replace").partition("\ufffd")[0].partition("\0")[0]


def unreadable(content: bytes) -> str | None:
    """Why DVC or the ladder cannot read a dvc.lock, in a sentence without the YAML's own faults; None if they can."""
    text = decoded(content)
    if not content.strip():
        return f"{LOCK}: empty; expected the entries of the stages that ran. {FIX}"
    if text.encode() != content:
        at = len(text.encode())
        return f"{LOCK}: torn; expected UTF-8 text, got other bytes from byte {at} on. {FIX}"
    if marker := MARKER.search(text):
        line = text.count("\n", 0, marker.start()) + 1
        return f"{LOCK}:{line}: a merge conflict; expected entries, got {marker[0].split()[0]}. {FIX}"
    return None


def structure_fault(parsed: Any) -> str | None:
    """Why parsed YAML is no dvc.lock; None if it is one."""
    if not isinstance(parsed, dict) or not isinstance(parsed.get("stages", {}), dict):
        return f"{LOCK}: torn; expected `schema` and `stages`, got {str(parsed)[:40]!r}. {FIX}"
    return None


def is_cut(entry: str, reference: str) -> bool:
    """Whether an entry is the beginning of the same entry elsewhere: the file ended there when it was written."""
    return entry.rstrip() != reference.rstrip() and reference.startswith(entry.rstrip())


def lost_entries(
    recorded: Mapping[str, Any],
    texts: Mapping[str, str],
    references: Mapping[str, Mapping[str, str]],
    outputs: Mapping[str, Iterable[str]],
    is_valid: Callable[[Any], bool],
) -> tuple[list[str], list[str]]:
    """Stages whose entries are (missing, cut).

    recorded, texts: the entries of dvc.lock, parsed and as text. references: for each place that holds entries, their
    texts. outputs: what each stage of dvc.yaml makes; an entry of another stage is no fault. is_valid: whether DVC
    reads an entry.
    """
    missing, cut = [], []
    for name, made in outputs.items():
        elsewhere = [entries[name] for entries in references.values() if name in entries]
        if name not in recorded:
            missing += [name] if elsewhere else []
            continue
        entry = recorded[name]
        ended = texts.get(name, "\n").endswith("\n")
        if not is_valid(entry) or not ended:
            cut.append(name)
            continue
        held = {out.get("path") for out in entry.get("outs") or []}
        text = texts.get(name, "")
        for reference in elsewhere:
            if is_cut(text, reference) and (set(made) - held or len(text.split("\n")) == len(reference.split("\n"))):
                cut.append(name)
                break
    return missing, cut
