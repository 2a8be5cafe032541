"""Command `ladder why`: where a number or a row comes from, and what a change would run again."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from ladder.data.markdown import visible
from ladder.data.strict_json import parse_json
from ladder.integrity.dvc_hashes import md5
from ladder.pipeline.errors import UserError
from ladder.pipeline.stage import read_written
from ladder.plan.expand import LOCK, parse_lock
from ladder.plan.lineage import Fact, Lineage, Node, Scope, unknown, walk
from ladder.plan.recorded import Recorded
from ladder.plan.recorded_commits import recorded_commits
from ladder.plan.row_lineage import Found, RowLineage, row_lineage

TABLE = "report/table.json"
CONSTRAINTS = "constraints.txt"
LIBRARIES = ("torch", "transformers", "trl", "peft", "dvc")
"""Packages whose pinned versions are shown."""
LISTED = 80
"""Maximum length of a list in the tree; --json has all of it."""
DIGITS = 8
"""Digits of a hash in the tree; --json has all."""


def recorded_now() -> tuple[Recorded, str]:
    """Return the graph of dvc.lock, and its text. Errors: UserError without dvc.lock."""
    if not LOCK.is_file():
        raise UserError(f"{LOCK}: no such file; expected the record of a run. Run `ladder repro report`")
    text = LOCK.read_text(encoding="utf-8")
    return Recorded(parse_lock(text, str(LOCK))), text


def why(metric: str, benchmark: str | None) -> Node:
    """Return the tree behind a metric: a rung with a benchmark, an output, a rung, or a stage.

    Errors: UserError for a metric that dvc.lock does not record.
    """
    recorded, text = recorded_now()
    lineage = Lineage(recorded, read_written(), recorded_commits(text))
    metric = metric.removeprefix("./").rstrip("/")
    if benchmark is not None:
        root = _score(lineage, metric, benchmark)
    elif metric in recorded.stages:
        root = lineage.node(metric, Scope())
    else:
        path = f"models/{metric}" if metric in lineage.rungs else metric
        maker = recorded.maker(path)
        if maker is None or lineage.is_absent(path):
            known = [*recorded.makers, *lineage.rungs, *recorded.stages]
            raise unknown(metric, [*known, *lineage.siblings(path)])
        rung = lineage.rung_of(path)
        facts = [_output(lineage, maker, path)]
        root = Node(path, facts, [lineage.node(maker, Scope(rung))])
    root.facts += lineage.summary(root)
    root.facts += [_versions(), *_machines(lineage, root)]
    return root


def _score(lineage: Lineage, rung: str, benchmark: str) -> Node:
    """Return the root of a score of the table, and the tree below it."""
    maker = lineage.recorded.maker(TABLE)
    lines = parse_json(Path(TABLE).read_text(encoding="utf-8")) if Path(TABLE).is_file() else []
    found = {str(line["rung"]): line["benchmarks"] for line in lines}
    if maker is None or rung not in found:
        raise unknown(rung, list(found))
    if benchmark not in found[rung]:
        raise unknown(benchmark, list(found[rung]))
    one = found[rung][benchmark]
    made_by = one["made_by"]
    headline = made_by["headline"]
    (low, high), unit = one["interval"], headline["unit"]
    title = f"{rung} on {benchmark}: {one['score']} {unit}, 95% CI [{low}, {high}], n {made_by.get('rows', '?')}"
    note = ""
    recorded = {out["path"]: out.get("md5") for out in lineage.recorded.lock[maker].get("outs") or ()}
    if recorded.get(TABLE) != md5(Path(TABLE)):
        note = f"{TABLE} differs from dvc.lock: this number is not of the run that is described here"
    fact = Fact("score", str(headline["name"]), one["score"], TABLE, note)
    details = {
        key: made_by[key] for key in ("of", "resamples", "seed", "finished", "tokens", "judge") if key in made_by
    }
    facts = [fact, Fact("score", "made_by", details, TABLE)]
    return Node(title, facts, [lineage.node(maker, Scope(rung, benchmark))])


def _output(lineage: Lineage, maker: str, path: str) -> Fact:
    outs = {out["path"]: out.get("md5") for out in lineage.recorded.lock[maker].get("outs") or ()}
    note = "" if Path(path).exists() else "not here; `dvc pull` fetches it"
    if path.startswith("metrics/") and path.endswith(".json") and Path(path).is_file():
        return Fact("score", path, parse_json(Path(path).read_text(encoding="utf-8")), path)
    inside = next((out for out in outs if path.startswith(f"{out}/")), "")
    return Fact("output", path, outs.get(path), f"in {inside}" if inside else "", note)


def _versions() -> Fact:
    """Return the pinned versions of the libraries; the installed ones of a run are not recorded."""
    place = Path(CONSTRAINTS)
    text = place.read_text(encoding="utf-8") if place.is_file() else ""
    pins = dict(re.findall(r"^([\w.-]+)==([^\s\\]+)", text, re.MULTILINE))
    pinned = ", ".join(f"{name} {pins[name]}" for name in LIBRARIES if name in pins)
    return Fact("versions", "pinned", pinned or "not recorded", CONSTRAINTS, "those of a run are not recorded")


def _machines(lineage: Lineage, root: Node) -> Iterator[Fact]:
    """Iterate over the machines of the rungs in a tree; rungs of one kind of machine are one fact."""
    outs = [fact.name for node in walk(root) for fact in node.facts if fact.kind == "output"]
    found: dict[tuple[str, str], list[str]] = {}
    for path in dict.fromkeys(outs):
        if path.startswith("models/") and (rung := path.removeprefix("models/")) in lineage.rungs:
            fact = lineage.machine(rung)
            found.setdefault((str(fact.value), fact.note), []).append(rung)
    for (value, note), rungs in found.items():
        yield Fact("machine", f"of {', '.join(rungs)}", value, note=note)


def document(node: Node) -> dict[str, Any]:
    """Return a tree as JSON."""
    facts = [{key: value for key, value in vars(fact).items() if value != ""} for fact in node.facts]
    repeated = {"repeated": True} if node.repeated else {}
    return {"title": node.title, **repeated, "facts": facts, "before": [document(each) for each in node.children]}


def print_tree(root: Node) -> None:
    """Print a tree for a terminal."""
    _console().print(_branch(root, Tree(Text(visible(root.title), style="bold"), guide_style="dim")))


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 10_000
    return console


def _branch(node: Node, tree: Tree) -> Tree:
    for fact in node.facts:
        tree.add(_line(fact))
    for child in node.children:
        below = tree.add(Text.assemble((child.title, "bold"), (" (above)" if child.repeated else "", "dim")))
        _branch(child, below)
    return tree


def _line(fact: Fact) -> Text:
    value = fact.value
    if fact.kind in ("data", "code", "output"):
        shown = "" if value is None else f"md5 {str(value)[:DIGITS]}"
        text = Text(f"{'made' if fact.kind == 'output' else 'code' if fact.kind == 'code' else 'reads'} {fact.name}")
        text.append(f"  {shown}", style="dim")
    elif fact.kind == "recorded":
        text = Text(f"recorded by {value}")
    else:
        said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        if isinstance(value, list) and len(said) > LISTED:
            said = f"{json.dumps(value[0], ensure_ascii=False)} to {json.dumps(value[-1])}, {len(value)} values"
        label = {"base": "base model ", "versions": "versions ", "machine": "machine "}.get(fact.kind, "")
        text = Text(visible(f"{label}{fact.name}{':' if label or fact.kind == 'seeds' else ' ='} {said}"))
    text.append(f"  {fact.where}" if fact.where else "", style="dim")
    text.append(f"  ({fact.note})" if fact.note else "", style="yellow")
    return text


def of_row(key: str) -> RowLineage:
    """Return where a row comes from. Errors: UserError for a key that no file has."""
    return row_lineage(key, recorded_now()[0])


def row_document(found: RowLineage) -> dict[str, Any]:
    """Return the lineage of a row as JSON."""
    rows = [{**{key: value for key, value in vars(each).items()}, "columns": each.columns} for each in found.found]
    return {"found": rows, "not_here": found.not_here}


def print_rows(found: RowLineage) -> None:
    """Print the lineage of a row for a terminal, from its source on."""
    console = _console()
    for each in found.found:
        console.print(Text.assemble((f"{each.path}:{each.lines[0]}", "bold"), f"  {each.key}", _more(each)))
        details = [f"made by {each.stage}" + (f" from {', '.join(each.inputs)}" if each.inputs else "")]
        details += [f"{name} {json.dumps(value, ensure_ascii=False)}" for name, value in each.columns.items()]
        details += [each.verdict] if each.verdict else []
        details += [f"read by {', '.join(each.readers)}"] if each.readers else ["read by no stage"]
        for detail in details:
            console.print(Text(f"  {visible(detail)}"))
    if found.not_here:
        console.print(Text(f"not here, so not searched: {', '.join(found.not_here)}", style="yellow"))


def _more(found: Found) -> str:
    return f"  ({len(found.lines)} rows: lines {', '.join(map(str, found.lines))})" if len(found.lines) > 1 else ""
