"""Which stages would run, and why: the stages of dvc.yaml against dvc.lock, the files and the cache, without DVC.

A stage runs if it has no entry in dvc.lock, its command or a tracked parameter differs, a dependency or its code
differs, or an output is missing or changed. A stage whose input comes from a stage that runs is listed as well; DVC
skips it if that input turns out to be the same. Large outputs are compared by size only; `dvc status` reads them.
"""

import configparser
import json
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import networkx

from ladder.integrity.dvc_hashes import is_cached, output_md5
from ladder.pipeline.links import LINKS
from ladder.pipeline.links import links as pipeline_links
from ladder.pipeline.stage import PARAMS
from ladder.plan.code_lists import CODE, CodeLists
from ladder.plan.expand import Stage, at, expand, links, read_lock

HASHED = 16_000_000
"""Outputs of at most this many bytes are hashed; larger ones are compared by size."""
Kind = Literal["new", "command", "param", "file", "code", "output", "always", "upstream"]
MISSING = "missing"
MISSING_OUTPUT = "output missing"


@dataclass(frozen=True)
class Reason:
    """One reason why a stage would run."""

    kind: Kind
    text: str


@dataclass(frozen=True)
class Change:
    """What a run would do with one stage."""

    stage: Stage
    reasons: tuple[Reason, ...]
    """Empty if nothing is to be done, or if the outputs come from the cache."""
    restored: bool = False
    """The outputs are missing here and are in DVC's cache: they are checked out."""

    @property
    def runs(self) -> bool:
        """Whether the stage would run."""
        return bool(self.reasons)


def changes(params: dict[str, Any], targets: list[str] | None = None) -> dict[str, Change]:
    """Return what a run would do with every stage that `targets` need (all stages by default), in running order.

    params: the sections as written, with the section `defaults`.
    `targets` are stages, entries or outputs: `report`, `sft@words`, `models/sft/words`.
    Errors: UserError for a target that does not exist.
    """
    stages = expand(params)
    graph = links(stages)
    if targets:
        wanted = {name for target in targets for name in _named(target, stages)}
        needed = wanted.union(*(networkx.ancestors(graph, name) for name in wanted))
        stages = {name: stage for name, stage in stages.items() if name in needed}
    inspector = Inspector(params, read_lock(), {out: stage for stage in stages.values() for out in stage.outs})
    found: dict[str, Change] = {}
    for name, stage in stages.items():
        upstream = [each for each in graph.predecessors(name) if each != CODE and each in found and found[each].runs]
        upstream.sort(key=list(found).index)
        unmade = any(reason.kind == "output" for each in upstream for reason in found[each].reasons)
        found[name] = inspector.change(stage, upstream, unmade=unmade)
    return found


def _named(target: str, stages: dict[str, Stage]) -> list[str]:
    from ladder.pipeline.errors import UserError
    from ladder.pipeline.names import did_you_mean

    found = [name for name, stage in stages.items() if target in (name, stage.kind) or target in stage.outs]
    if not found:
        raise UserError(
            f"{target}: no stage, entry or output of dvc.yaml{did_you_mean(target, stages)}; expected one such as "
            "report, sft@words or models/sft/words"
        )
    return found


@dataclass
class Inspector:
    """Compares stages with dvc.lock and the files."""

    params: dict[str, Any]
    lock: dict[str, Any]
    makers: dict[str, Stage]
    hashes: dict[str, str] = field(default_factory=dict)

    def change(self, stage: Stage, upstream: list[str], *, unmade: bool = False) -> Change:
        """Return what a run would do with a stage, given the stages before it that would run.

        `unmade`: an input is missing. Then, as for missing outputs, its code is not compared: parsing all code takes
        seconds, and the stage runs anyway.
        """
        entry = self.lock.get(stage.name)
        if stage.frozen:
            return Change(stage, ())
        if entry is None:
            return Change(stage, (Reason("new", "no entry in dvc.lock"), *_upstream(upstream)))
        missing, changed = self._outs(stage, entry)
        gone = not all(self._cached(out) for out in missing)
        reasons = [
            *([Reason("always", "runs every time")] if stage.always else []),
            *([Reason("command", "its command changed")] if entry.get("cmd") != stage.cmd else []),
            *self._params(stage, entry),
            *self._deps(stage, entry, code=not gone and not unmade),
            *changed,
        ]
        restored = bool(missing) and not reasons and not upstream and not gone
        if missing and not restored:
            kept = [path for path in stage.outs if path not in stage.uncached]
            names = [str(out["path"]) for out in missing]
            reported = "" if set(names) >= set(kept) else f": {_listed(names)}"
            reasons.append(Reason("output", f"{MISSING_OUTPUT}{reported}"))
        return Change(stage, (*reasons, *_upstream(upstream)), restored)

    def _params(self, stage: Stage, entry: dict[str, Any]) -> list[Reason]:
        reported = []
        for file, tracked, values in (
            (PARAMS.name, stage.params, self.params),
            (LINKS.name, stage.linked, self.linked if stage.linked else {}),
        ):
            recorded = (entry.get("params") or {}).get(file) or {}
            for key in (*tracked, *(key for key in recorded if key not in tracked)):
                if key not in recorded:
                    reported.append(f"{key}: new")
                elif key not in tracked:
                    reported.append(f"{key}: no longer tracked")
                else:
                    reported += list(_differences(recorded[key], at(values, key), key))
        return [Reason("param", each) for each in reported]

    @cached_property
    def linked(self) -> dict[str, Any]:
        """What links.yaml holds for these parameters."""
        return pipeline_links(self.params)

    def _deps(self, stage: Stage, entry: dict[str, Any], *, code: bool) -> list[Reason]:
        recorded = {dep["path"]: dep for dep in entry.get("deps") or ()}
        found = [Reason("file", f"no longer a dependency: {path}") for path in recorded if path not in stage.deps]
        for path in stage.deps:
            before = recorded.get(path, {}).get("md5")
            if before is None:
                found.append(Reason("file", f"new dependency: {path}"))
            elif stage.name == CODE and Path(path).is_dir():
                changed = [each for each in self._code.changed() if Path(each).parts[0] == path] if code else []
                found += [Reason("code", _listed(changed))] if changed else []
            elif Path(path).parts[0] == CODE and CODE in self.lock:
                changed = self._code.changed_in(path, before) if code else []
                found += [Reason("code", _listed(changed))] if changed else []
            elif (now := self._hash(path, before)) == MISSING:
                if not self._made(path):
                    found.append(Reason("file", f"missing: {path}"))
            elif now not in (before, None):
                found.append(Reason("file", f"changed: {path}"))
        return found

    def _made(self, path: str) -> bool:
        """Whether a stage makes this path, a folder around it, or a file in it."""
        return any(str(each) in self.makers for each in (Path(path), *Path(path).parents)) or any(
            out.startswith(f"{path}/") for out in self.makers
        )

    def _hash(self, path: str, before: str) -> str | None:
        """Return the current hash of a dependency, MISSING, or None if it is too large to be hashed here."""
        if maker := self.makers.get(path):
            recorded = {out["path"]: out.get("md5") for out in (self.lock.get(maker.name) or {}).get("outs") or ()}
            if path in recorded:
                return recorded[path]
        if path in self.hashes:
            return self.hashes[path]
        here = Path(path)
        if not here.exists():
            return MISSING
        if self._made(path) and _bytes(here)[0] > HASHED:
            return None
        self.hashes[path] = output_md5(here)
        return self.hashes[path]

    @cached_property
    def _code(self) -> CodeLists:
        folders = self.makers[CODE].deps if CODE in self.makers else ()
        return CodeLists(self.lock[CODE], [Path(path) for path in folders if Path(path).is_dir()], self.cache)

    def _outs(self, stage: Stage, entry: dict[str, Any]) -> tuple[list[dict[str, Any]], list[Reason]]:
        """Return (recorded outputs that are missing here, reasons for those that changed)."""
        recorded = {out["path"]: out for out in entry.get("outs") or ()}
        missing, reasons = [], []
        for path in stage.outs:
            out, here = recorded.get(path), Path(path)
            if out is None:
                reasons.append(Reason("output", f"new output: {path}"))
            elif not here.exists():
                missing.append(out)
            elif not _same(here, out):
                reasons.append(Reason("output", f"output changed: {path}"))
        return missing, reasons

    def _cached(self, out: dict[str, Any]) -> bool:
        return bool(out.get("md5")) and is_cached(self.cache, out["md5"])

    @cached_property
    def cache(self) -> Path:
        """Folder of DVC's cached objects."""
        return cache_folder()


def cache_folder() -> Path:
    """Return the folder of DVC's cached objects, from DVC's configuration of the repository."""
    folder = Path(".dvc", "cache")
    for name in ("config", "config.local"):
        config = configparser.ConfigParser(interpolation=None)
        config.read(Path(".dvc", name), encoding="utf-8")
        folder = Path(".dvc", config.get("cache", "dir", fallback=str(Path("..") / folder)).strip('"'))
    return folder / "files" / "md5"


def _upstream(names: list[str]) -> list[Reason]:
    return [Reason("upstream", name) for name in names]


def _listed(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _differences(before: Any, now: Any, key: str) -> list[str]:
    """Return one text for each value that differs, with its keys."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*before, *(each for each in now if each not in before)]
        return [
            text
            for each in keys
            for text in (
                _differences(before[each], now[each], f"{key}.{each}")
                if each in before and each in now
                else [f"{key}.{each}: {'added' if each in now else 'removed'}"]
            )
        ]
    return [] if _equal(before, now) else [f"{key}: {_short(before)} -> {_short(now)}"]


def _equal(before: Any, now: Any) -> bool:
    """Whether two values are the same to DVC; in Python, True equals 1."""
    return before == now and isinstance(before, bool) == isinstance(now, bool)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _bytes(path: Path) -> tuple[int, int]:
    """Return (bytes, files) of a file or folder."""
    files = [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]
    return sum(each.stat().st_size for each in files), len(files)


def _same(path: Path, out: dict[str, Any]) -> bool:
    size, count = _bytes(path)
    if size != out.get("size", size) or (path.is_dir() and count != out.get("nfiles", count)):
        return False
    return size > HASHED or output_md5(path) == out.get("md5")


def counts(found: dict[str, Change]) -> Counter[str]:
    """Return how many stages run, are restored from the cache, and are unchanged."""
    return Counter("run" if each.runs else "restored" if each.restored else "unchanged" for each in found.values())
