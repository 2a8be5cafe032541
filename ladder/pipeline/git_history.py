"""Revisions of the git repository: commits, tags and DVC experiments, and files in them without a checkout."""

import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from ladder.pipeline.errors import UserError

WORKSPACE = "workspace"
"""Name of the files as they are now."""
FORM = "--format=%H%x09%ct%x09%cs%x09%s"
EXPERIMENT = re.compile(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(?P<name>.+)")
"""Reference of a DVC experiment: the commit that it started from, and its name. DVC keeps queues beside them."""
SHORT = 7
"""Digits of a commit's hash in its label."""
Kind = Literal["workspace", "commit", "tag", "experiment"]


@dataclass(frozen=True)
class Point:
    """A revision: its label, commit (None for the workspace), subject, and the date (YYYY-MM-DD) of the commit."""

    label: str
    commit: str | None
    kind: Kind
    date: str = ""
    subject: str = ""
    seconds: int = 0
    """Time of the commit, in seconds since 1970."""


def git(*words: str, given: str = "") -> str:
    """Run git, and return what it prints. Errors: UserError with git's message."""
    try:
        done = subprocess.run(["git", *words], input=given.encode(), capture_output=True, check=False)
    except FileNotFoundError:
        raise UserError("git: no such program; expected it on PATH. Install git") from None
    if done.returncode:
        reported = " ".join(done.stderr.decode("utf-8", "replace").split())
        raise UserError(f"git {words[0]}: {reported or f'exit code {done.returncode}'}")
    return done.stdout.decode("utf-8", "replace")


def commits(paths: Sequence[str]) -> list[Point]:
    """Return the commits of all branches, tags and HEAD that changed one of `paths`, newest first."""
    if not git("rev-list", "--all", "--max-count=1"):
        return []
    given = ("--branches", "--remotes", "--tags", "HEAD", "--full-history", FORM, "--", *paths)
    return [_point(line, "", "commit") for line in git("log", *given).splitlines()]


def _point(line: str, label: str, kind: Kind) -> Point:
    """Return the point of a line of git log in FORM."""
    commit, seconds, date, subject = line.split("\t", 3)
    return Point(label or commit[:SHORT], commit, kind, date, subject, int(seconds))


def tags() -> list[Point]:
    """Return all tags of commits."""
    listed = git("for-each-ref", "refs/tags", "--format=%(refname:lstrip=2)%09%(objecttype)%09%(*objecttype)")
    rows = (line.split("\t") for line in listed.splitlines())
    return _described([(name, f"refs/tags/{name}", "tag") for name, *types in rows if "commit" in types])


def experiments() -> list[Point]:
    """Return all DVC experiments. One name on two commits is labeled `NAME (COMMIT)` with the commit before each."""
    references = git("for-each-ref", "refs/exps", "--format=%(refname)").splitlines()
    found = [(match["name"], name) for name in references if (match := EXPERIMENT.fullmatch(name))]
    names = [name for name, _ in found]
    labels = {
        reference: name if names.count(name) == 1 else f"{name} ({''.join(reference.split('/')[2:4])[:SHORT]})"
        for name, reference in found
    }
    return _described([(label, reference, "experiment") for reference, label in labels.items()])


def _described(named: Sequence[tuple[str, str, Kind]]) -> list[Point]:
    """Return the points of (label, reference, kind)."""
    if not named:
        return []
    references = "".join(f"{reference}^{{commit}}\n" for _, reference, _ in named)
    hashes = [line.split()[0] for line in git("cat-file", "--batch-check", given=references).splitlines()]
    listed = git("log", "--no-walk=unsorted", "--stdin", FORM, given="\n".join(dict.fromkeys(hashes)) + "\n")
    lines = {line.partition("\t")[0]: line for line in listed.splitlines()}
    return [_point(lines[commit], label, kind) for (label, _, kind), commit in zip(named, hashes, strict=True)]


def resolve(name: str) -> Point:
    """Return a revision by its name: `workspace`, a commit, tag or branch, or a DVC experiment.

    Errors: UserError for an unknown name, and for one that several experiments have.
    """
    if name == WORKSPACE:
        return Point(WORKSPACE, None, "workspace")
    if not name.startswith("-") and _exists(f"{name}^{{commit}}"):
        kind: Kind = "tag" if _exists(f"refs/tags/{name}") else "commit"
        return _described([(name, name, kind)])[0]
    known = experiments()
    found = [point for point in known if point.label.partition(" (")[0] == name or point.label == name]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(str(point.commit)[:SHORT] for point in found)
        raise UserError(f"{name}: {len(found)} experiments have this name; expected one. Give its commit: {listed}")
    from ladder.pipeline.names import did_you_mean

    near = did_you_mean(name, [point.label for point in [*known, *tags()]])
    raise UserError(f"{name}: no such revision{near}; expected a commit, tag, branch, experiment or {WORKSPACE}")


def _exists(name: str) -> bool:
    done = subprocess.run(["git", "rev-parse", "--verify", "--quiet", name], capture_output=True, check=False)
    return done.returncode == 0


def object_ids(names: Iterable[str]) -> list[str | None]:
    """Return the object of each `COMMIT:./PATH`; None where there is no such file."""
    given = "".join(f"{name}\n" for name in names)
    lines = git("cat-file", "--batch-check=%(objectname)", given=given).splitlines() if given else []
    return [None if line.endswith(" missing") else line for line in lines]


def texts(objects: Iterable[str]) -> dict[str, str]:
    """Return the text of each object, which is read once. Errors: UserError for an object that git does not have."""
    names = list(dict.fromkeys(objects))
    if not names:
        return {}
    command = ["git", "cat-file", "--batch"]
    content = subprocess.run(command, input="\n".join(names).encode() + b"\n", capture_output=True, check=True).stdout
    found, start = {}, 0
    for name in names:
        end = content.index(b"\n", start)
        words = content[start:end].decode().split()
        if len(words) != 3:
            raise UserError(
                f"git cat-file: {name}: no such object; expected the whole history. `git fetch --unshallow`"
            )
        size = int(words[2])
        found[name] = content[end + 1 : end + 1 + size].decode("utf-8", "replace")
        start = end + 2 + size  # git ends each object with a line break
    return found


def text_at(point: Point, path: str) -> str | None:
    """Return the text of a file at a revision; None if it is not there."""
    if point.commit is None:
        from pathlib import Path

        return Path(path).read_text(encoding="utf-8") if Path(path).is_file() else None
    [name] = object_ids([f"{point.commit}:./{path}"])
    return None if name is None else texts([name])[name]
