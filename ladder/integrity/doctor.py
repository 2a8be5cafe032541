"""Check the integrity of rungs, DVC's cache, dvc.lock and remotes, and repair what can be repaired.

ladder doctor          # report; exit code 1 if there is an unrepaired problem
ladder doctor --fix    # also repair
ladder doctor --json   # one JSON object on stdout
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil
from dvc.exceptions import DvcException
from dvc.repo import Repo

from ladder.data.strict_json import parse_json
from ladder.integrity.corruption import cache_findings, rung_findings
from ladder.integrity.dvc_hashes import objects
from ladder.integrity.findings import Finding
from ladder.integrity.leftovers import part_findings, queue_findings
from ladder.integrity.lock_repair import repair
from ladder.pipeline.check import lock_faults
from ladder.pipeline.stage import UserError


class Examination(NamedTuple):
    """Result of an examination: how much was examined, and the problems."""

    examined: dict[str, int]
    findings: list[Finding]

    @property
    def ok(self) -> bool:
        """Whether no problem is left."""
        return all(finding.done for finding in self.findings)

    def document(self) -> dict[str, object]:
        """Return the result as a JSON document."""
        rows = [
            {"subject": finding.subject, "problem": finding.sentence, "repaired": finding.done or None}
            for finding in self.findings
        ]
        return {"examined": self.examined, "findings": rows}

    def text(self) -> str:
        """Return the result as text: a line for each problem, one for its repair, and a summary."""
        lines = []
        for finding in self.findings:
            lines += [finding.sentence, *([f"  {finding.done}"] if finding.done else [])]
        examined = ", ".join(f"{count} {what}" for what, count in self.examined.items())
        left = sum(not finding.done for finding in self.findings)
        rest = f", {left} not repaired" if self.findings else ""
        return "\n".join([*lines, f"examined {examined}: {len(self.findings)} problems{rest}"])


def doctor(*, fix: bool = False) -> Examination:
    """Run `ladder doctor`: return all problems; with `fix`, repair them first. Errors: UserError."""
    with opened() as repo:
        if fix:
            refuse_while_dvc_runs(repo)
        findings = list(_lock_findings())
        if fix:
            _repair(findings)  # the other findings use the stages of dvc.lock
        rest = list(_findings(repo))
        if fix:
            _repair(rest)
        counts = {"rungs": len(list(Path("models").rglob("rung.json"))), "cache objects": len(list(_objects(repo)))}
        return Examination(counts, [*findings, *rest])


def opened() -> Repo:
    """Open DVC's repository in the working directory. Errors: UserError."""
    try:
        return Repo()
    except DvcException as error:
        raise UserError(f"{Path.cwd()}: {' '.join(str(error).split())}") from None


def _lock_findings() -> Iterator[Finding]:
    try:
        faults = lock_faults()
    except UserError as refusal:
        yield Finding("lock", str(refusal))
        return
    for fault in faults:
        yield Finding("lock", fault, lambda: "; ".join(repair()) or "dvc.lock: written again")


def _findings(repo: Repo) -> Iterator[Finding]:
    yield from rung_findings()
    yield from cache_findings(Path(repo.cache.local.path))
    yield from part_findings()
    yield from queue_findings(repo)
    yield from remote_findings(repo)


def _objects(repo: Repo) -> Iterator[Path]:
    return objects(Path(repo.cache.local.path))


def remote_findings(repo: Repo) -> Iterator[Finding]:
    """Findings for remotes without `verify: true`: DVC would accept corrupt downloads from them."""
    for name, settings in sorted(repo.config["remote"].items()):
        if not settings.get("verify"):
            yield Finding(
                "remote",
                f"remote {name}: verify is not set; expected true, or corrupt downloads are accepted. "
                f"`dvc remote modify {name} verify true` sets it, and so does `--fix`.",
                partial(_verify, repo, name),
            )


def _verify(repo: Repo, name: str) -> str:
    level = next(
        (level for level in ("local", "repo") if name in repo.config.load_one(level).get("remote", {})), "local"
    )
    with repo.config.edit(level) as config:
        config.setdefault("remote", {}).setdefault(name, {})["verify"] = True
    return f"remote {name}: verify set to true ({level} configuration)"


def refuse_while_dvc_runs(repo: Repo) -> None:
    """Refuse to change anything while a DVC command runs a stage. Errors: UserError naming the process."""
    try:
        held = parse_json((Path(str(repo.tmp_dir)) / "rwlock").read_text(encoding="utf-8"))
        infos = [info for kind in held.values() for holders in kind.values() for info in _listed(holders)]
    except (OSError, ValueError, AttributeError):
        return
    for info in infos:
        if isinstance(info, dict) and psutil.pid_exists(int(info.get("pid", 0))):
            raise UserError(
                f"process {info['pid']} runs `{info.get('cmd')}` in this repository. Wait for it, or end it."
            )


def _listed(holders: object) -> list[object]:
    return holders if isinstance(holders, list) else [holders]


def _repair(findings: list[Finding]) -> None:
    done: set[str] = set()
    for finding in findings:
        if finding.repair is not None:
            if finding.subject == "lock" and done:
                finding.done = next(iter(done))  # one repair restores all entries
                continue
            finding.done = finding.repair()
            if finding.subject == "lock":
                done.add(finding.done)
