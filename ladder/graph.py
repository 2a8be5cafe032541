"""The pipeline looked at before anything runs: what DVC would do silently wrong, said in a sentence."""

import importlib
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import networkx
from dvc.exceptions import CyclicGraphError, DvcException
from dvc.repo import Repo
from ruamel.yaml import YAML

from ladder.imports import imported, read_imports
from ladder.run import PARAMS, Refused, fit, read_params, read_yaml

LOCK = Path("dvc.lock")
CODE = "code"
"""The stage that lists what the others import, and its folder."""


def check() -> list[str]:
    """Every fault of params.yaml and the graph, a sentence each; empty when the ladder may climb."""
    return [*_section_faults(), *entry_faults(), *part_faults(), *code_faults(), *_graph_faults()]


def _section_faults() -> Iterable[str]:
    """Sections that do not fit the stage that reads them. What DVC has recorded as run is not looked at again."""
    recorded = _recorded_params()
    pipeline = read_yaml(Path("dvc.yaml"))["stages"]
    for stage, section in read_params().items():
        named = has_entries(stage, pipeline.get(stage, {}))
        if named and not isinstance(section, dict):
            yield f"{PARAMS}: {stage}: expected named entries, {{}} for none, got {section!r}"
            continue
        entries = {f"{stage}.{name}": entry for name, entry in section.items()} if named else {stage: section}
        for key, entry in entries.items():
            if key not in recorded or recorded[key] != entry:
                try:
                    fit(importlib.import_module(f"stages.{stage}").Params, entry, f"{PARAMS}: {key}")
                except Refused as refusal:
                    yield str(refusal)


def entry_faults() -> Iterable[str]:
    """Names in a list that a stage runs over or reads, such as report.benchmarks, of which its section has no entry."""
    params = read_params()
    for stage, stanza in read_yaml(Path("dvc.yaml"))["stages"].items():
        tracked = stanza.get("do", stanza)["params"]
        over = {name: key.strip("${}") for name, key in stanza.get("matrix", {}).items()}
        lists = [key for name, key in over.items() if f"{stage}.${{item.{name}}}" in tracked]
        lists += [key for key in tracked[1:] if "." in key]
        for section, _, last in (key.partition(".") for key in lists):
            for entry in params.get(section, {}).get(last) or []:
                if entry not in (params.get(stage) or {}):
                    yield f"{PARAMS}: {section}.{last} names {entry!r}, of which {stage} has no entry"


def part_faults() -> Iterable[str]:
    """Parts that a mixture names and `part` has not, or the other way: its folder must hold those that it names."""
    params = read_params()
    for mixture, section in (params.get("mixture") or {}).items():
        if isinstance(section, dict) and isinstance(section.get("parts"), dict):
            named = {f"{mixture}/{name}" for name in section["parts"]}
            there = {name for name in params.get("part") or {} if name.startswith(f"{mixture}/")}
            for name in sorted(named - there):
                yield f"{PARAMS}: mixture.{mixture}.parts needs the entry `{name}: {{data: …}}` in part"
            for name in sorted(there - named):
                yield f"{PARAMS}: part has {name}, which mixture.{mixture}.parts does not name, with a weight or count"


def code_faults() -> Iterable[str]:
    """Stages that do not depend on the list of what they import: no edit of their code would rerun them."""
    imports = read_imports(map(Path, ("ladder", "stages", "benchmarks")))
    for stage, stanza in read_yaml(Path("dvc.yaml"))["stages"].items():
        deps = stanza.get("do", stanza).get("deps", [])
        told = sorted(path.name for path in imported(Path("stages", f"{stage}.py"), imports) if not path.suffix)
        for files in (f"{CODE}/{stage}.txt", *(f"{CODE}/{package}/" for package in told)):
            if stage != CODE and not any(dep.startswith(files) for dep in deps):
                yield f"dvc.yaml: {stage}: expected {files} among its deps: an edit of its code would not rerun it"


def has_entries(stage: str, stanza: dict[str, Any]) -> bool:
    """Whether a stage's section holds named entries: then its stanza tracks one of them, `sft.${key}`."""
    return stage not in stanza.get("do", stanza).get("params", [stage])


def _recorded_params() -> dict[str, Any]:
    """What dvc.lock says each stage was last run with: by the key that dvc.yaml names."""
    recorded: dict[str, Any] = {}
    for entry in _lock().values():
        recorded |= entry.get("params", {}).get(str(PARAMS), {})
    return recorded


def _lock() -> dict[str, Any]:
    return (read_yaml(LOCK) or {}).get("stages", {}) if LOCK.exists() else {}


def _graph_faults() -> Iterable[str]:
    """Parents that no stage makes, rungs that are their own ancestors, records that no stage owns."""
    try:
        with Repo() as repo:
            stages = list(repo.index.stages)
            repo.index.check_graph()
            ignored = repo.scm.is_ignored
    except CyclicGraphError as error:
        names = sorted(str(error).rsplit(": ", 1)[-1].rstrip(".").split(", "))
        yield f"{PARAMS}: a rung is its own ancestor: look at the parents of {', '.join(names)}"
        return
    except DvcException as error:
        yield f"dvc.yaml: {' '.join(str(error).split())}"
        return
    made = _outputs(stages)
    rungs = sorted(str(path.relative_to("models")) for path in made if path.parts[0] == "models")
    for stage in stages:
        for dependency in stage.deps:
            path = _module(Path(dependency.def_path or ""))
            made_here = any(path == out or path in out.parents or out in path.parents for out in made)
            # What git ignores is a stage's: such a file may be left of a rung that was taken out.
            if not made_here and (not path.exists() or ignored(str(path.resolve()))):
                what = f"rungs are {', '.join(rungs)}" if path.parts[:1] == ("models",) else "see dvc.yaml"
                yield f"{PARAMS}: {stage.addressing} needs {path}, which no stage makes; {what}"
    yield from _claim_faults(made)
    for name in stale(stage.addressing for stage in stages):
        yield f"{LOCK}: {name} is no longer in {PARAMS} but its outputs are; `python -m ladder prune` removes both"


def _module(path: Path) -> Path:
    """The module of which a file of `code` lists what it imports; any other path as it is."""
    match path.parts:
        case [folder, name] if folder == CODE:
            return Path("stages", name).with_suffix(".py")
        case [folder, package, name] if folder == CODE:
            return Path(package, name).with_suffix(".py")
    return path


def _claim_faults(made: list[Path]) -> Iterable[str]:
    """Claims of the guide about rows that no stage measures."""
    for number, claim in enumerate(read_params().get("guide", {}).get("claims", [])):
        if not isinstance(claim, dict):
            continue  # its section's fault, told with the sections
        measure, rung = str(claim.get("measure")).partition(":")[0], claim.get("rung")
        path = Path("data", measure, f"{rung}.jsonl")
        if measure != "reward" and path not in made:
            kinds = sorted({str(Path(*out.parts[1:-2])) for out in made if out.parts[1:2] == (measure.split("/")[0],)})
            yield (
                f"{PARAMS}: guide.claims.{number}: no stage measures {measure} of {rung}; measured are "
                f"{', '.join(kinds)} of the rungs that guide lists"
            )


def _outputs(stages: list[Any]) -> list[Path]:
    """What the stages and `.dvc` files make, from the root: a `.dvc` file names its output from its own folder."""
    return [Path(out.fs_path).relative_to(Path.cwd()) for stage in stages for out in stage.outs]


def stale(names: Iterable[str]) -> list[str]:
    """Entries of dvc.lock whose stage is gone."""
    return sorted(set(_lock()) - set(names))


def prune() -> list[str]:
    """Remove the entries of dvc.lock that no stage owns, and their outputs that no other stage makes."""
    with Repo() as repo:
        stages = list(repo.index.stages)
    owned = set(_outputs(stages))
    yaml = YAML()
    document = yaml.load(LOCK.read_text(encoding="utf-8"))
    gone = stale(stage.addressing for stage in stages)
    for name in gone:
        for out in document["stages"].pop(name).get("outs", []):
            path = Path(out["path"])
            if path in owned:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    with LOCK.open("w", encoding="utf-8") as stream:
        yaml.dump(document, stream)
    return gone


def picture() -> str:
    """The ladder up to its table as a Mermaid flowchart: DVC's graph with the entries of a stage drawn as one, and no
    arrow that a longer way says already, nor from `code` to all; then every stage's `desc` in a table, the guide's
    methods too."""
    graph = networkx.DiGraph()
    with Repo() as repo:
        table = next(stage for stage in repo.index.stages if stage.addressing == "report")
        climbed = {table, *networkx.descendants(repo.index.graph, table)}
        for user, maker in repo.index.graph.subgraph(climbed).edges:
            first, second = (stage.addressing.split("@")[0] for stage in (maker, user))
            if first not in (second, CODE):
                graph.add_edge(first, second)
    arrows = sorted(networkx.transitive_reduction(graph).edges)
    drawn = ["```mermaid", "flowchart TD", *(f"    {first} --> {second}" for first, second in arrows), "```"]
    stanzas = read_yaml(Path("dvc.yaml"))["stages"]
    rows = [f"| `{name}` | {stanza.get('do', stanza)['desc']} |" for name, stanza in stanzas.items()]
    return "\n".join([*drawn, "", "| stage | what it makes |", "|---|---|", *rows])
