"""Atomic backup copy of dvc.lock, for comparison with and repair of an incomplete dvc.lock.

The copy is .dvc/tmp/ladder/dvc.lock, which git ignores. Every stage that DVC starts updates it, because DVC has then
written the previous stage's entry. `ladder check` updates it too. Entries that dvc.lock has lost stay in the
copy. The first line records git's commit. If HEAD does not descend from that commit, only the entries of HEAD count.
"""

import contextlib
import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from ladder.data.atomic_write import whole
from ladder.data.strict_json import parse_json
from ladder.integrity.lock_file import HEAD, LOCK, LockText, decoded, is_cut, split, unreadable

COPY = Path(".dvc/tmp/ladder/dvc.lock")
QUIET_SECONDS = 1.0
"""Minimum age of dvc.lock in seconds for a copy of its last entry, which another `dvc repro` may be writing."""


@dataclass(frozen=True)
class Copy:
    """Contents of the backup copy."""

    entries: dict[str, str]
    commit: str
    """git's HEAD when the copy was written; empty without git."""
    dismissed: str
    """Commit whose dvc.lock is ignored, because the user removed dvc.lock to start over; empty otherwise."""


def keep_copy() -> None:
    """Update the copy from dvc.lock, unless dvc.lock is unreadable. Failure to write the copy is ignored."""
    if Path(".dvc").is_dir():
        with contextlib.suppress(OSError):
            _keep()


def _keep() -> None:
    commit, before = head_commit(), read_copy()
    if not LOCK.exists():
        if before.entries or head_entries():
            _write(Copy({}, commit, commit), LockText(HEAD, {}, ""))
        return
    content = LOCK.read_bytes()
    if unreadable(content):
        return
    found = split(decoded(content))
    entries = dict(found.entries)
    if entries and (not found.text.endswith("\n") or time.time() - LOCK.stat().st_mtime < QUIET_SECONDS):
        entries.popitem()
    if same_line(before.commit, commit):
        for name, text in before.entries.items():
            if name not in entries or is_cut(entries[name], text):
                entries[name] = text
        entries = {name: entries[name] for name in dict.fromkeys([*before.entries, *entries])}
    dismissed = before.dismissed if before.dismissed and same_line(before.commit, commit) else ""
    _write(Copy(entries, commit, dismissed), LockText(found.head or HEAD, entries, found.tail))


def _write(copy: Copy, text: LockText) -> None:
    first = json.dumps({"commit": copy.commit, "dismissed": copy.dismissed, "entries": len(copy.entries)})
    content = f"# {first}\n{text.text}".encode()
    if not COPY.is_file() or COPY.read_bytes() != content:
        with whole(COPY) as file:
            file.write(content)


def read_copy() -> Copy:
    """Read the copy; empty if it is missing or damaged."""
    try:
        first, _, text = COPY.read_text(encoding="utf-8").partition("\n")
        facts = parse_json(first.removeprefix("# "))
        entries = split(text).entries
        if facts["entries"] == len(entries):
            return Copy(entries, facts["commit"], facts["dismissed"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return Copy({}, "", "")


def forget(names: list[str]) -> None:
    """Remove the entries of deleted stages from the copy."""
    copy = read_copy()
    if set(names) & copy.entries.keys():
        entries = {name: text for name, text in copy.entries.items() if name not in names}
        _write(Copy(entries, copy.commit, copy.dismissed), LockText(HEAD, entries, ""))


def dismiss_head() -> None:
    """Ignore the entries of dvc.lock in git's HEAD from now on, because the user started over."""
    copy, commit = read_copy(), head_commit()
    _write(Copy(copy.entries, commit, commit), LockText(HEAD, copy.entries, ""))


def references() -> dict[str, dict[str, str]]:
    """Entries to compare dvc.lock with, by their location: the copy first, then git's HEAD."""
    copy, commit = read_copy(), head_commit()
    found = {}
    if same_line(copy.commit, commit):
        found[str(COPY)] = copy.entries
    if not (copy.dismissed and copy.dismissed == commit):
        found["git's HEAD"] = head_entries()
    return {place: entries for place, entries in found.items() if entries}


def head_entries() -> dict[str, str]:
    """Entries of dvc.lock in git's HEAD; empty without git or a commit."""
    text = _git("show", f"HEAD:./{LOCK}")
    return {} if text is None or unreadable(text.encode()) else split(text).entries


def head_commit() -> str:
    """Hash of git's HEAD; empty without git or a commit."""
    return (_git("rev-parse", "--verify", "--quiet", "HEAD") or "").strip()


def same_line(before: str, commit: str) -> bool:
    """Whether `commit` is `before` or descends from it."""
    return before == commit or (bool(before) and _git("merge-base", "--is-ancestor", before, commit) is not None)


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], capture_output=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None
