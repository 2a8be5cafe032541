"""Records of states of the repository in which a command found nothing to do, so that it need not look again.

A state is the inode, size, modification and change time of every file of the working tree and of DVC's cache, git's
references, the configuration of DVC and the installed packages: all that `ladder check` and `dvc repro` read. Any
difference, such as a touched file, leads to the full command. A wrong answer would need a write that leaves all four
values of a file unchanged, so a state is recorded only when its newest file is older than the clock's resolution.
"""

import contextlib
import hashlib
import json
import os
import stat
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

RECORD = Path(".dvc/tmp/ladder/clean.json")
VERSION = 1
KEPT = 8
"""Maximum number of recorded commands."""
TOP_SKIPPED = frozenset({".git", ".venv", ".cache", ".mypy_cache", ".pytest_cache", ".ruff_cache"})
"""Folders at the root that neither DVC nor a stage reads as an input."""
DVC_SKIPPED = frozenset({"cache", "tmp"})
"""Folders in .dvc that are no input: the cache is walked where the configuration puts it, tmp holds this record."""
TICK_NS = 20_000_000
"""Maximum resolution of a file's times on a local disk, in ns: a kernel tick of 10 ms, twice."""
COARSE_NS = 2_000_000_000
"""The same for file systems that count whole seconds."""


class Walk:
    """Hash of the state of files.

    newest: latest modification or change time, in ns. imports: files of DVC that may import data from elsewhere.
    """

    def __init__(self) -> None:
        self.hash = hashlib.sha256()
        self.newest = 0
        self.coarse = True
        self.imports: list[str] = []
        self._folders: set[tuple[int, int]] = set()

    def add(self, path: str, skipped: frozenset[str] = frozenset()) -> None:
        """Add a file, or a folder with all that is in it. A path that does not exist is added as missing."""
        try:
            found = Path(path).stat()
        except OSError as error:
            self.hash.update(f"{path}\0{error.errno}\0".encode(errors="surrogateescape"))
            return
        if not stat.S_ISDIR(found.st_mode):
            self._note(path, found)
            return
        self.hash.update(f"{path}\0{found.st_mode}\0".encode(errors="surrogateescape"))
        if (found.st_dev, found.st_ino) in self._folders:  # a link to a folder above, or a second one to this folder
            return
        self._folders.add((found.st_dev, found.st_ino))
        for entry in _sorted_entries(path):
            if entry.name in skipped or entry.name == "__pycache__" or entry.name.endswith(".egg-info"):
                continue
            if entry.is_symlink():
                self._note(entry.path, entry.stat(follow_symlinks=False))
                self.hash.update(str(Path(entry.path).readlink()).encode(errors="surrogateescape"))
                self.add(entry.path)
            elif entry.is_dir(follow_symlinks=False):
                if not Path(entry.path, "pyvenv.cfg").exists():
                    self.add(entry.path, DVC_SKIPPED if path == "." and entry.name == ".dvc" else frozenset())
            else:
                self._note(entry.path, entry.stat(follow_symlinks=False))
                self.imports += [entry.path] if entry.name.endswith(".dvc") else []

    def _note(self, path: str, found: os.stat_result) -> None:
        values = (found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        self.hash.update(f"{path}\0{values}\0".encode(errors="surrogateescape"))
        self.newest = max(self.newest, found.st_mtime_ns, found.st_ctime_ns)
        self.coarse = self.coarse and found.st_ctime_ns % 1_000_000_000 == 0

    def is_settled(self) -> bool:
        """Whether a later write must change the newest file's times."""
        return time.time_ns() - self.newest > (COARSE_NS if self.coarse else TICK_NS)


def _sorted_entries(path: str) -> list[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def take(roots: Iterable[str] = ()) -> Walk:
    """Return the state of the repository in the working directory and of further files or folders."""
    walk = Walk()
    walk.add(".", TOP_SKIPPED)
    for root in roots:
        walk.add(root)
    for path in _configuration():
        walk.add(path)
    walk.hash.update(json.dumps([*_surroundings()]).encode())
    return walk


def settled(roots: Iterable[str] = ()) -> Walk:
    """Return the state as soon as it is settled. Waits for one tick of the clock at most, for a file written just now.

    The state may still be unsettled: where times are whole seconds, or lie in the future.
    """
    walk = take(roots)
    if not walk.is_settled():
        time.sleep(TICK_NS / 1e9)
        walk = take(roots)
    return walk


def _configuration() -> list[str]:
    """Files outside the working tree that change what DVC or git do."""
    import platformdirs

    folders = [
        os.environ.get("DVC_GLOBAL_CONFIG_DIR") or platformdirs.user_config_dir("dvc", "iterative"),
        os.environ.get("DVC_SYSTEM_CONFIG_DIR") or platformdirs.site_config_dir("dvc", "iterative"),
    ]
    home = Path.home()
    paths = [Path(".git/info/exclude"), home / ".gitconfig", home / ".config/git"]
    return list(map(str, [*(Path(folder, "config") for folder in folders), *paths]))


def _surroundings() -> Iterator[str]:
    """Facts that are no files: git's references, packages, and variables that DVC and stages read."""
    with contextlib.suppress(FileNotFoundError):
        done = subprocess.run(["git", "show-ref", "--head"], capture_output=True, check=False)
        yield done.stdout.decode("utf-8", "replace")
    packages = sysconfig.get_paths()["purelib"]
    yield from (str(Path.cwd()), sys.version, sys.prefix, packages, str(Path(packages).stat().st_mtime_ns))
    for name, value in sorted(os.environ.items()):
        if name.startswith(("DVC_", "LADDER_")):
            yield f"{name}={hashlib.sha256(value.encode(errors='surrogateescape')).hexdigest()}"


def recall(command: str) -> list[str] | None:
    """Return the messages of a command if the state is that of its last clean run; None if it must run."""
    entry = _read().get(command)
    if entry is not None and take(entry["roots"]).hash.hexdigest() == entry["state"]:
        messages: list[str] = entry["messages"]
        return messages
    return None


def remember(command: str, walk: Walk, roots: Iterable[str], messages: Iterable[str] = ()) -> None:
    """Record that the command found nothing to do.

    walk: the settled state before it ran. Nothing is recorded if the state was unsettled, or has changed since.
    """
    roots = list(roots)
    if not RECORD.parents[1].is_dir() or not walk.is_settled() or take(roots).hash.digest() != walk.hash.digest():
        return
    from ladder.data.atomic_write import whole

    entries = _read()
    entries.pop(command, None)
    entries[command] = {"state": walk.hash.hexdigest(), "roots": roots, "messages": list(messages)}
    kept = dict(list(entries.items())[-KEPT:])
    with contextlib.suppress(OSError), whole(RECORD) as file:
        file.write(json.dumps({"version": VERSION, "entries": kept}).encode())


def _read() -> dict[str, Any]:
    try:
        content = json.loads(RECORD.read_text(encoding="utf-8"))
        entries: dict[str, Any] = content["entries"] if content["version"] == VERSION else {}
        return {name: {key: entry[key] for key in ("state", "roots", "messages")} for name, entry in entries.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
