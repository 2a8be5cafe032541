"""Where a number comes from: the stages behind it, from the metric down to the base model and the seeds.

Everything is read from dvc.lock and files that git tracks; a clone without models gives the same tree. Where a file's
content is here or in DVC's cache, its rows are counted too.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from ladder.data.strict_json import parse_json
from ladder.integrity.dvc_hashes import folder_files
from ladder.pipeline.defaults import DEFAULTS, with_defaults
from ladder.pipeline.errors import UserError
from ladder.pipeline.links import LINKS
from ladder.pipeline.seeds import original
from ladder.pipeline.stage import PARAMS
from ladder.pipeline.yaml_lines import Lines
from ladder.plan.expand import at
from ladder.plan.local_objects import LocalObjects
from ladder.plan.recorded import Recorded, Value, values

SEED = "seed"
Kind = Literal["score", "param", "data", "code", "output", "recorded", "base", "seeds", "versions", "machine"]


@dataclass(frozen=True)
class Fact:
    """One thing that is known about a metric or a stage.

    name, value: the parameter and its value, or the path and its hash. where: file and line, or where the fact is from.
    note: something missing, or a difference from the record.
    """

    kind: Kind
    name: str
    value: Any
    where: str = ""
    note: str = ""


@dataclass
class Node:
    """A metric, or a stage that it depends on, with the stages before it."""

    title: str
    facts: list[Fact] = field(default_factory=list)
    children: list["Node"] = field(default_factory=list)
    repeated: bool = False
    """The stage is in the tree before, where its facts are."""


@dataclass(frozen=True)
class Scope:
    """What of the pipeline is followed. rung: the rung behind the metric, None for all. benchmark: likewise."""

    rung: str | None = None
    benchmark: str | None = None


class Lineage:
    """Stages behind a metric.

    recorded: the entries of dvc.lock. params: params.yaml as written, with the section `defaults`. commits: the commit
    that recorded each entry, as text.
    """

    def __init__(self, recorded: Recorded, params: dict[str, Any], commits: dict[str, str]) -> None:
        self.recorded, self.params, self.commits = recorded, params, commits
        self.objects = LocalObjects()
        self.lines = Lines(PARAMS)
        self._seen: set[str] = set()

    @cached_property
    def rungs(self) -> list[str]:
        """All rungs that dvc.lock records."""
        return [out.removeprefix("models/") for out in self.recorded.makers if out.startswith("models/")]

    @cached_property
    def benchmarks(self) -> list[str]:
        """All benchmarks that a recorded stage measured."""
        found = (value for entry in self.recorded.lock.values() for value in values(entry))
        names = (value.value for value in found if value.key == "report.benchmarks")
        return list(dict.fromkeys(str(name) for listed in names if isinstance(listed, list) for name in listed))

    @cached_property
    def _resolved(self) -> dict[str, Any]:
        return with_defaults(self.params)

    def node(self, name: str, scope: Scope) -> Node:
        """Return a stage with everything before it; a stage that is in the tree already has no facts again."""
        if name in self._seen:
            return Node(name, repeated=True)
        self._seen.add(name)
        entry = self.recorded.lock[name]
        facts = [*self._params(entry, scope), *self._deps(entry), *self._outs(entry)]
        facts.append(Fact("recorded", "dvc.lock", self.commits.get(name, "not committed")))
        return Node(name, facts, [self.node(each, scope) for each in self.before(name, scope)])

    def before(self, name: str, scope: Scope) -> list[str]:
        """Return the stages whose outputs a stage reads, of a folder of rungs only those of the rung."""
        found: dict[str, None] = {}
        for path in self.recorded.stages[name].deps:
            maker = self.recorded.maker(path)
            for each in [maker] if maker else self.recorded.makers_inside(path):
                if each != name and not self._is_code(each) and (maker or self._belongs(each, path, scope)):
                    found[each] = None
        return list(found)

    def _is_code(self, name: str) -> bool:
        """Whether a stage makes code lists only; the lists themselves are facts."""
        outs = self.recorded.stages[name].outs
        return bool(outs) and all(Path(out).parts[0] == "code" for out in outs)

    def _belongs(self, name: str, folder: str, scope: Scope) -> bool:
        """Whether an output in a folder is of the rung, one of its replicas, or of no rung."""
        outs = [out for out in self.recorded.stages[name].outs if out.startswith(f"{folder}/")]
        of_rungs = [rung for out in outs if (rung := self.rung_of(out))]
        return not of_rungs or scope.rung is None or scope.rung in map(original, of_rungs) or scope.rung in of_rungs

    def rung_of(self, path: str) -> str | None:
        """Return the rung that a path ends in: `sft/words` of metrics/report/sft/words.json."""
        stem = path.removesuffix(".jsonl").removesuffix(".json")
        found = [rung for rung in self.rungs if stem.endswith(f"/{rung}")]
        return max(found, key=len, default=None)

    def _params(self, entry: dict[str, Any], scope: Scope) -> Iterator[Fact]:
        for each in values(entry):
            part = each.key.split(".")[1:2]
            if scope.benchmark and part != [scope.benchmark] and set(part) & set(self.benchmarks):
                continue
            where, note = self._place(each), ""
            now = at(self._resolved, each.key)
            if now != each.value and (each.file == PARAMS.name or now is not None):
                note = f"params.yaml has {json.dumps(now, ensure_ascii=False)} now"
            yield Fact("param", each.key, each.value, where, note)

    def _place(self, value: Value) -> str:
        """Return file and line of a value, in the section `defaults` if the entry inherits it."""
        section, _, rest = value.key.split(".", 2) if value.key.count(".") > 1 else (value.key, "", "")
        keys: list[str] = value.key.split(".")
        if value.file == LINKS.name and at(self.params, f"{DEFAULTS}.{section}.{rest}") is not None:
            keys = [DEFAULTS, section, *rest.split(".")]
            return f"{self.lines.where(keys).partition(': ')[0]} ({DEFAULTS}.{section})"
        return self.lines.where(keys).partition(": ")[0] if value.file == PARAMS.name else value.file

    def _deps(self, entry: dict[str, Any]) -> Iterator[Fact]:
        known = {dep["path"]: dep for dep in entry.get("deps") or ()}
        for path, dep in known.items():
            if Path(path).parts[0] == "code":
                yield Fact("code", path, dep.get("md5"), note=self._code_note(dep))
            elif Path(path).parts[0] == "models":
                yield Fact("data", path, dep.get("md5"))
            else:
                yield Fact("data", path, dep.get("md5"), where=self._origin(path), note=self._rows_note(path, dep))

    def _origin(self, path: str) -> str:
        return "" if self.recorded.makes(path) else "git"

    def _code_note(self, dep: dict[str, Any]) -> str:
        text = self.objects.text(dep["path"], dep.get("md5"))
        if text is not None:
            return f"{len(text.splitlines())} files"
        return f"{dep['nfiles']} lists" if "nfiles" in dep else "its list is not here"

    def _rows_note(self, path: str, dep: dict[str, Any]) -> str:
        if "nfiles" in dep:
            return f"{dep['nfiles']} files"
        if not path.endswith(".jsonl"):
            return ""
        rows = self.objects.rows(path, dep.get("md5"))
        return "rows not counted: not here" if rows is None else f"{rows} rows"

    def _outs(self, entry: dict[str, Any]) -> Iterator[Fact]:
        for out in entry.get("outs") or ():
            here = Path(out["path"]).exists()
            cached = here or self.objects.is_cached(out)
            note = "" if here else "not here; in DVC's cache" if cached else "not here; `dvc pull` fetches it"
            yield Fact("output", out["path"], out.get("md5"), note=note)

    def summary(self, root: Node) -> list[Fact]:
        """Return the base model and the seeds of all stages in a tree."""
        facts = [fact for node in walk(root) for fact in node.facts if fact.kind == "param"]
        base = [fact for fact in facts if fact.name in ("base.source", "base.sha256")]
        seeds = [f"{fact.name} {fact.value}" for fact in facts if fact.name.split(".")[-1] in (SEED, "data_seed")]
        found = [Fact("base", fact.name, fact.value, fact.where) for fact in base]
        return [*found, Fact("seeds", "seeds", ", ".join(dict.fromkeys(seeds)) or "none recorded")]

    def machine(self, rung: str) -> Fact:
        """Return the machine or device of a rung's training, from rung.json or its record of training."""
        record_here = False
        for path, keys in ((f"models/{rung}/rung.json", ("machine", "device")), (f"metrics/{rung}.json", ("device",))):
            text = self._content(path)
            record_here |= text is not None
            record = parse_json(text) if text else {}
            for key in keys:
                if isinstance(record, dict) and (value := record.get(key)):
                    return Fact("machine", key, value if isinstance(value, str) else json.dumps(value), path)
        note = "" if record_here else "rung.json and the record of training are not here"
        return Fact("machine", "machine", "not recorded" if record_here else "unknown", note=note)

    def is_absent(self, path: str) -> bool:
        """Whether a path is in a recorded folder that is here, without this file."""
        return not Path(path).exists() and path not in self.recorded.makers and bool(self.siblings(path))

    def siblings(self, path: str) -> list[str]:
        """Return the files here of the recorded folder that a path is in; empty for a path in no folder."""
        folder = next((str(each) for each in Path(path).parents if str(each) in self.recorded.makers), None)
        return [str(each) for each in Path(folder).rglob("*") if each.is_file()] if folder else []

    def _content(self, path: str) -> str | None:
        """Return the recorded content of an output or of a file in one; None if it is not here."""
        maker = self.recorded.maker(path)
        outs = {out["path"]: out.get("md5") for out in (self.recorded.lock[maker].get("outs") or ())} if maker else {}
        for out, md5 in outs.items():
            if path == out:
                return self.objects.text(path, md5)
            if path.startswith(f"{out}/") and md5:
                inner = folder_files(self.objects.cache, md5).get(path.removeprefix(f"{out}/"))
                return self.objects.text(path, inner)
        return None


def walk(root: Node) -> Iterator[Node]:
    """Iterate over a tree, from the metric down."""
    yield root
    for child in root.children:
        yield from walk(child)


def unknown(metric: str, known: list[str]) -> UserError:
    """Return the error for a metric that no recorded stage made."""
    from ladder.pipeline.names import did_you_mean

    return UserError(
        f"{metric}: not recorded in dvc.lock{did_you_mean(metric, known)}; expected a rung with a benchmark, an output "
        "such as metrics/report/sft/words.json, or a stage such as sft@words"
    )
