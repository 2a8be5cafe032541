"""Static checks of the pipeline before it runs: params.yaml, the graph of dvc.yaml, and dvc.lock.

Faults of params.yaml are reported with their line numbers.
"""

import configparser
import contextlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import networkx
from dvc.exceptions import CyclicGraphError, DvcException
from dvc.repo import Repo

from ladder.data.markdown import code, table
from ladder.integrity.lock_copy import keep_copy, references
from ladder.integrity.lock_file import FIX, LOCK, decoded, lost_entries, split, structure_fault, unreadable
from ladder.integrity.lock_repair import is_valid, pipeline_outputs
from ladder.pipeline.defaults import DEFAULTS, default_faults, with_defaults
from ladder.pipeline.dvc_file import body, origins, read_pipeline
from ladder.pipeline.imports import imported, read_imports
from ladder.pipeline.links import write_links
from ladder.pipeline.names import SINGLE, Fault, did_you_mean, name_faults
from ladder.pipeline.param_checks import params_faults
from ladder.pipeline.records import leftovers, outputs, parsed_lock, recorded_entries, stale
from ladder.pipeline.secrets import holds_secret, is_secret_name
from ladder.pipeline.seeds import MARK, original
from ladder.pipeline.stage import PARAMS, UserError, read_sections
from ladder.pipeline.yaml_lines import Keys, Lines, dotted

CONFIG = Path(".dvc/config")
BENCHMARKS = "report.benchmarks"
"""List of the benchmarks of the table."""
CODE = "code"
"""Name of the stage that lists each module's imports, and of its output folder."""


def check() -> list[str]:
    """Return every fault of params.yaml and the graph, one sentence each; an empty list if the pipeline may run.

    Faults of params.yaml begin with `params.yaml:LINE: KEY`. Names that a shell could interpret as commands are
    reported first, without other faults, because DVC refuses to read a pipeline that contains them. An unreadable
    dvc.lock is also reported alone. Writes links.yaml (ladder/pipeline/links.py) if params.yaml needs another one.
    """
    if names := name_sentences():
        return names
    written, lines = read_sections(), Lines(PARAMS)
    if lost := _unreadable_lock():
        return [lost]
    params = with_defaults(written)
    write_links(written)
    faults = [*params_faults(params, read_pipeline(), _recorded_params()), *entry_faults(params), *part_faults(params)]
    reported = [_sentence(fault, lines) for fault in faults]
    sentences = [*reported, *remote_faults(), *code_faults(), *_graph_faults(params, lines)]
    keep_copy()
    return sentences


def name_sentences() -> list[str]:
    """Return the faults of `defaults`, and of names in params.yaml that a shell could interpret.

    DVC must not run before they are gone.
    """
    params = read_sections()
    faults = [*default_faults(params), *name_faults(with_defaults(params))]
    lines = Lines(PARAMS) if faults else None
    return [_sentence(fault, lines) for fault in faults if lines]


def _sentence(fault: Fault, lines: Lines) -> str:
    return f"{_place(fault.keys, lines)}: {fault.sentence}"


def _place(keys: Keys, lines: Lines) -> str:
    """Return line and key of a value; of a key that an entry inherits, those of the default."""
    if len(keys) > 2 and not lines.has(keys) and lines.has(default := (DEFAULTS, keys[0], *keys[2:])):
        return f"{lines.where(default)} (in {dotted(keys[:2])})"
    return lines.where(keys)


def entry_faults(params: dict[str, Any]) -> Iterable[Fault]:
    """Find benchmarks of the table that have no module, or no entry in the section of a stage that reads the list.

    These are the stages whose section has an entry for each benchmark, and `task`, which fetches the rows.
    """
    pipeline = read_pipeline()
    readers = [stage for stage in pipeline if BENCHMARKS in body(pipeline[stage])["params"] and stage not in SINGLE]
    modules = [path.stem for path in Path("benchmarks").glob("[!_]*.py")]
    section, _, last = BENCHMARKS.partition(".")
    listed = (params.get(section) or {}).get(last)
    for place, name in enumerate(listed if isinstance(listed, list) else []):
        if name not in modules:
            yield Fault((section, last, place), f"no module benchmarks/{name}.py{did_you_mean(name, modules)}")
        for stage in ("task", *readers):
            known = params.get(stage) or {}
            if name not in known:
                yield Fault((section, last, place), f"{stage} has no entry {name!r}{did_you_mean(name, known)}")


def part_faults(params: dict[str, Any]) -> Iterable[Fault]:
    """Find parts that a mixture names but `part` lacks, and parts of its folder that it does not name."""
    for mixture, section in (params.get("mixture") or {}).items():
        if isinstance(section, dict) and isinstance(section.get("parts"), dict):
            named = {f"{mixture}/{name}": name for name in section["parts"]}
            there = {name for name in params.get("part") or {} if name.startswith(f"{mixture}/")}
            for name in sorted(named.keys() - there):
                keys = ("mixture", mixture, "parts", named[name])
                yield Fault(keys, f"no such part; add the entry `{name}: {{data: ...}}` to part")
            for name in sorted(there - named.keys()):
                sentence = f"mixture.{mixture}.parts does not name this part; add it there with a weight or count"
                yield Fault(("part", name), f"{sentence}{did_you_mean(name.split('/')[-1], section['parts'])}")


def remote_faults() -> Iterable[str]:
    """Find credentials of remotes in .dvc/config, because that file is committed."""
    config = configparser.ConfigParser(interpolation=None, strict=False)
    with contextlib.suppress(configparser.Error, UnicodeDecodeError):  # DVC reports a broken config itself
        config.read(CONFIG, encoding="utf-8")
    for section in config.sections():
        for option, value in config.items(section):
            if value.lower() not in ("", "true", "false") and (is_secret_name(option) or holds_secret(value)):
                yield (
                    f"{CONFIG}: {section}: {option}: a secret; expected none, because the file is committed. Put it "
                    f"into {CONFIG}.local (`dvc remote modify --local`) or an environment variable"
                )


def code_faults() -> Iterable[str]:
    """Find stages that do not depend on the list of their imports.

    Without it, an edit of their code does not rerun them.
    """
    imports = read_imports(map(Path, ("ladder", "stages", "benchmarks")))
    for stage, stanza in read_pipeline().items():
        deps = body(stanza).get("deps", [])
        reported = sorted(path.name for path in imported(Path("stages", f"{stage}.py"), imports) if not path.suffix)
        for files in (f"{CODE}/{stage}.txt", *(f"{CODE}/{package}" for package in reported)):
            if stage != CODE and files not in deps:
                yield f"dvc.yaml: {stage}: expected {files} among its deps: an edit of its code would not rerun it"


def _unreadable_lock() -> str | None:
    """Return why dvc.lock cannot be read; None if it is readable or missing."""
    if not LOCK.exists():
        return None
    if fault := unreadable(LOCK.read_bytes()):
        return fault
    try:
        return structure_fault(parsed_lock())
    except UserError as refusal:
        return f"{refusal}. {FIX}"


def lock_faults() -> list[str]:
    """Return all faults of dvc.lock. Errors: UserError if the pipeline itself cannot be read."""
    if lost := _unreadable_lock():
        return [lost]
    try:
        with Repo() as repo:
            return list(_lost_entries(pipeline_outputs(repo))) if LOCK.exists() else []
    except DvcException as error:
        raise UserError(f"dvc.yaml: {' '.join(str(error).split())}") from None


def _lost_entries(made: dict[str, list[str]]) -> Iterable[str]:
    """Find entries missing from dvc.lock that dvc.yaml needs and the lock copy or git's HEAD still holds."""
    places = references()
    texts = split(decoded(LOCK.read_bytes())).entries
    missing, cut = lost_entries(recorded_entries(), texts, places, made, is_valid)
    for kind, names in (("missing", missing), ("cut", cut)):
        if names:
            where = " and ".join(places) or "no other place"
            yield (
                f"{LOCK}: torn; {len(names)} of {len(made)} entries are {kind} ({', '.join(names)}); "
                f"expected as in {where}. `ladder doctor --fix` restores them"
            )


def _recorded_params() -> dict[str, Any]:
    """Return the parameters of each stage's last run from dvc.lock, by the key that dvc.yaml tracks."""
    recorded: dict[str, Any] = {}
    for name, entry in recorded_entries().items():
        held = entry.get("params", {}) if isinstance(entry, dict) else None
        values = held.get(str(PARAMS), {}) if isinstance(held, dict) else None
        if not isinstance(values, dict):
            raise UserError(
                f"{LOCK}: {name}: expected an entry with params, as DVC writes it; `git checkout {LOCK}` restores it"
            )
        recorded |= values
    return recorded


def _graph_faults(params: dict[str, Any], lines: Lines) -> Iterable[str]:
    """Find parents that no stage produces, and cycles. Prints one line about dvc.lock entries without a stage."""
    lost: list[str] = []
    try:
        with Repo() as repo:
            lost = list(_lost_entries(pipeline_outputs(repo))) if LOCK.exists() else []
            yield from lost
            stages = list(repo.index.stages)
            repo.index.check_graph()
            ignored = repo.scm.is_ignored
    except CyclicGraphError as error:
        names = sorted({original(name) for name in str(error).rsplit(": ", 1)[-1].rstrip(".").split(", ")})
        yield f"{PARAMS}: a rung is its own ancestor: look at the parents of {', '.join(names)}"
        return
    except DvcException as error:
        if not lost:
            yield f"dvc.yaml: {' '.join(str(error).split())}"
        return
    made = outputs(stages)
    written = [path for path in made if MARK not in str(path)]
    outs, reached = set(made), {folder for out in made for folder in (out, *out.parents)}
    rungs = sorted(str(path.relative_to("models")) for path in written if path.parts[0] == "models")
    rows = sorted(str(path.relative_to("data").with_suffix("")) for path in written if path.parts[0] == "data")
    for stage in (stage for stage in stages if MARK not in stage.addressing):  # a replica has its entry's faults
        for dependency in stage.deps:
            path = _module(Path(dependency.def_path or ""))
            made_here = path in reached or not outs.isdisjoint(path.parents)
            # An ignored file is a stage's output, so an existing one may be left over from a removed rung.
            if not made_here and (not path.exists() or ignored(str(path.resolve()))):
                known = {"models": rungs, "data": rows}.get(path.parts[0], [])
                near = did_you_mean(Path(*path.parts[1:]).with_suffix(""), known)
                what = f"rungs are {', '.join(rungs)}" if known is rungs else "see dvc.yaml"
                where = _where(stage.addressing, str(dependency.def_path), params, lines)
                yield f"{where}: {stage.addressing} needs {path}, which no stage makes{near}; {what}"
    if gone := stale(stage.addressing for stage in stages):
        print(leftovers(gone), flush=True)  # information: a dropped entry is no fault


def _where(addressing: str, dependency: str, params: dict[str, Any], lines: Lines) -> str:
    """Return where params.yaml names a dependency of a stage: `params.yaml:123: dpo.chat.parent`."""
    stage, _, name = addressing.partition("@")
    stanza = read_pipeline()[stage]
    for template in body(stanza)["deps"]:
        for keys in origins(dependency, template, stanza, params):
            if "matrix" in stanza or len(keys) < 3 or name == keys[1] or isinstance(keys[2], int):
                return _place(keys, lines)
    return str(PARAMS)


def _module(path: Path) -> Path:
    """Return the module whose imports a file of `code` lists; any other path is returned unchanged."""
    match path.parts:
        case [folder, name] if folder == CODE and path.suffix:
            return Path("stages", name).with_suffix(".py")
        case [folder, package, name] if folder == CODE:
            stage = Path("stages", package).with_suffix(".py")  # the code that an entry of a stage chooses
            return stage if stage.is_file() else Path(package, name).with_suffix(".py")
    return path


def picture() -> str:
    """Return the pipeline up to the report as Markdown: a Mermaid flowchart and a table of every stage's `desc`.

    The flowchart merges the entries of a stage into one node. A node with replicas (ladder/pipeline/seeds.py) states
    their number. It is a transitive reduction and omits edges from `code`.
    """
    graph = networkx.DiGraph()
    with Repo() as repo:
        report = next(stage for stage in repo.index.stages if stage.addressing == "report")
        climbed = {report, *networkx.descendants(repo.index.graph, report)}
        for user, maker in repo.index.graph.subgraph(climbed).edges:
            first, second = (stage.addressing.split("@")[0] for stage in (maker, user))
            if first not in (second, CODE):
                graph.add_edge(first, second)
        replicas = Counter(stage.addressing.split("@")[0] for stage in climbed if MARK in stage.addressing)
    arrows = sorted(networkx.transitive_reduction(graph).edges)
    counts = [f'    {kind}["{kind} ({count} replicas)"]' for kind, count in sorted(replicas.items())]
    drawn = ["```mermaid", "flowchart TD", *counts, *(f"    {first} --> {second}" for first, second in arrows), "```"]
    stanzas = read_pipeline()
    rows = [(code(name), body(stanza)["desc"]) for name, stanza in stanzas.items()]
    return "\n".join([*drawn, "", table(["stage", "what it makes"], rows, rule=["---", "---"])])
