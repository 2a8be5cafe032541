"""dvc.lock as text: split it into entries, detect unreadable files and missing or truncated entries.

DVC writes dvc.lock in place. If it is killed while writing, the file is shorter but often still valid YAML, and DVC
treats the lost stages as never run. Entries are compared with those of the backup copy (ladder/integrity/lock_copy.py)
and of git's HEAD.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOCK = Path("dvc.lock")
HEAD = "schema: '2.0'\nstages:\n"
ENTRY = re.compile(r"  (?:\? (?P<long>\S.*)|(?P<name>[^\s#?:-].*?):)[ \t]*")
"""First line of an entry. ruamel.yaml writes keys of more than 128 characters with a question mark."""
MARKER = re.compile(r"^(<{7}|={7}|>{7}|\|{7})( .*)?$", re.MULTILINE)
"""Line that git writes around the two sides of a merge conflict."""
FIX = "`ladder doctor --fix` restores it"


@dataclass(frozen=True)
class LockText:
    """Text of dvc.lock, split into entries."""

    head: str
    """Text before the first entry: the schema, data sets."""
    entries: dict[str, str]
    """Lines of each stage's entry, by stage name."""
    tail: str
    """Text after the last entry."""

    @property
    def text(self) -> str:
        """The whole file."""
        return self.head + "".join(self.entries.values()) + self.tail


def split(text: str) -> LockText:
    """Split a dvc.lock in DVC's format into entries. It does not parse YAML, which takes seconds."""
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
    """Decode up to the first invalid byte. A file whose end never reached the disk ends in NUL bytes."""
    return content.decode("utf-8", "replace").partition("\ufffd")[0].partition("\0")[0]


def unreadable(content: bytes) -> str | None:
    """Error message if dvc.lock is empty, not text, or has a merge conflict; None otherwise. YAML is not parsed."""
    text = decoded(content)
    if not content.strip():
        return f"{LOCK}: empty; expected the entries of the stages that ran. {FIX}"
    if text.encode() != content:
        at = len(text.encode())
        return f"{LOCK}: torn; expected UTF-8 text, got other bytes from byte {at} on. {FIX}"
    if marker := MARKER.search(text):
        line = text.count("\n", 0, marker.start()) + 1
        return f"{LOCK}:{line}: merge conflict; expected entries, got {marker[0].split()[0]}. {FIX}"
    return None


def structure_fault(parsed: Any) -> str | None:
    """Error message if parsed YAML is not a dvc.lock; None if it is."""
    if not isinstance(parsed, dict) or not isinstance(parsed.get("stages", {}), dict):
        return f"{LOCK}: torn; expected `schema` and `stages`, got {str(parsed)[:40]!r}. {FIX}"
    return None


def is_cut(entry: str, reference: str) -> bool:
    """Whether an entry is a proper prefix of its reference, which means that the file was truncated there."""
    return entry.rstrip() != reference.rstrip() and reference.startswith(entry.rstrip())


def lost_entries(
    recorded: Mapping[str, Any],
    texts: Mapping[str, str],
    references: Mapping[str, Mapping[str, str]],
    outputs: Mapping[str, Iterable[str]],
    is_valid: Callable[[Any], bool],
) -> tuple[list[str], list[str]]:
    """Stages with missing and with truncated entries: (missing, truncated).

    recorded, texts: the entries of dvc.lock, parsed and as text. references: for each location with entries, their
    texts. outputs: outputs of each stage of dvc.yaml; entries of other stages are ignored. is_valid: whether DVC
    accepts an entry.
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
