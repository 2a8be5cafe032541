"""Check the integrity of rungs, DVC's cache, dvc.lock and remotes, and repair what can be repaired.

python -m ladder doctor          # report; exit code 1 if there is an unrepaired problem
python -m ladder doctor --fix    # also repair
python -m ladder doctor --json   # one JSON object on stdout
"""

import argparse
import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

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

WHAT = """Examine the repository:
  rungs      the SHA-256 of every file of every rung in models/ (records of earlier hashes are not used)
  cache      the MD5 of every object of DVC's cache
  dvc.lock   entries that are missing or cut, conflicts, a file that is no YAML
  leftovers  half-written outputs, experiments that say Running without a worker, their workspaces
  remotes    `verify: true`, without which DVC neither checks what it downloads nor what it uploads
"""


def doctor(arguments: list[str]) -> None:
    """Run `ladder doctor`: print all problems; exit code 1 if one of them is not repaired."""
    parser = argparse.ArgumentParser(
        prog="python -m ladder doctor", description=WHAT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fix", action="store_true", help="repair; refuses while a DVC command runs")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    with _opened() as repo:
        if options.fix:
            refuse_while_dvc_runs(repo)
        findings = list(_lock_findings())
        if options.fix:
            _repair(findings)  # the other findings use the stages of dvc.lock
        rest = list(_findings(repo))
        if options.fix:
            _repair(rest)
        findings += rest
        counts = {"rungs": len(list(Path("models").rglob("rung.json"))), "cache objects": len(list(_objects(repo)))}
    if options.json:
        print(json.dumps({"examined": counts, "findings": [_row(finding) for finding in findings]}, indent=2))
    else:
        _print(findings, counts)
    if any(not finding.done for finding in findings):
        sys.exit(1)


def _opened() -> Repo:
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
                f"remote {name}: verify is not set; expected true, or corrupt downloads pass. "
                f"`dvc remote modify {name} verify true` sets it, and so does `--fix`",
                partial(_verify, repo, name),
            )


def _verify(repo: Repo, name: str) -> str:
    level = next(
        (level for level in ("local", "repo") if name in repo.config.load_one(level).get("remote", {})), "local"
    )
    with repo.config.edit(level) as config:
        config.setdefault("remote", {}).setdefault(name, {})["verify"] = True
    return f"remote {name}: verify is true now ({level} configuration)"


def refuse_while_dvc_runs(repo: Repo) -> None:
    """Refuse to change anything while a DVC command runs a stage. Errors: UserError naming the process."""
    try:
        held = parse_json((Path(str(repo.tmp_dir)) / "rwlock").read_text(encoding="utf-8"))
        infos = [info for kind in held.values() for holders in kind.values() for info in _listed(holders)]
    except (OSError, ValueError, AttributeError):
        return
    for info in infos:
        if isinstance(info, dict) and psutil.pid_exists(int(info.get("pid", 0))):
            raise UserError(f"process {info['pid']} runs `{info.get('cmd')}` here; wait for it, or end it")


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


def _row(finding: Finding) -> dict[str, object]:
    return {"subject": finding.subject, "problem": finding.sentence, "repaired": finding.done or None}


def _print(findings: list[Finding], counts: dict[str, int]) -> None:
    for finding in findings:
        print(finding.sentence)
        if finding.done:
            print(f"  {finding.done}")
    examined = ", ".join(f"{count} {what}" for what, count in counts.items())
    left = sum(not finding.done for finding in findings)
    print(f"examined {examined}: {len(findings)} problems" + (f", {left} not repaired" if findings else ""))
