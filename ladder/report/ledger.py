"""What runs cost: seconds, memory, tokens, API calls and money of each stage, from the records that exist.

Three records are read, and nothing is written. The seconds of a stage's process are kept on the machine where it ran
(.dvc/tmp/ladder/seconds.json). The record of a training (metrics/<stage>/<name>.json) has the seconds and the peak
memory of the training itself; it travels with DVC's cache, so it may be of another machine. Replies of an endpoint are
in LADDER_WORK, one file for each model. A number that no record has is None.

Results that several revisions share are one run: whatever DVC restored from its cache was paid for once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ladder.data.strict_json import parse_json
from ladder.pipeline.errors import UserError
from ladder.pipeline.git_history import Point, commits, experiments, object_ids, resolve, tags, texts
from ladder.plan.durations import digest, read_record
from ladder.plan.expand import LOCK, expand, parse_lock
from ladder.plan.local_objects import LocalObjects
from ladder.plan.recorded import Recorded
from ladder.report.endpoint_bills import Bill, bills, served
from ladder.report.row_tokens import RowTokens

Origin = Literal["here", "record", ""]


@dataclass(frozen=True)
class Run:
    """One run of a stage. A number is None if it is not recorded."""

    stage: str
    rung: str
    """Rung that it makes or answers; empty for none."""
    revisions: tuple[str, ...]
    """Revisions that share the result, the first one first."""
    seconds: float | None
    origin: Origin
    """`here`: the process on this machine. `record`: the training alone, elsewhere or before a restore from DVC's
    cache. Empty: not recorded."""
    memory_gb: float | None = None
    tokens: int | None = None
    tokens_per_second: float | None = None
    endpoint: str = ""
    """Model behind an endpoint that it asks; calls and money are recorded for each model, not for each stage."""


@dataclass
class Ledger:
    """Runs in the order of the pipeline, bills of endpoints, and the totals of rungs."""

    runs: list[Run] = field(default_factory=list)
    bills: list[Bill] = field(default_factory=list)
    rungs: dict[str, dict[str, float | int | None]] = field(default_factory=dict)

    def seconds(self, origin: Origin) -> float:
        """Return the sum of the seconds with this origin."""
        return sum(run.seconds or 0.0 for run in self.runs if run.origin == origin)

    def count(self, origin: Origin) -> int:
        """Return the number of runs with this origin."""
        return sum(run.origin == origin for run in self.runs)


def ledger(revisions: Sequence[str] | None, params: dict[str, Any]) -> Ledger:
    """Return the costs at these revisions, or with None of all commits, tags and experiments.

    params: params.yaml as written, with the section `defaults`. Errors: UserError for a revision without dvc.lock.
    """
    locks = list(_locks(revisions))
    seconds, objects = _seconds_here(params), LocalObjects()
    counter = RowTokens(objects)
    found: dict[tuple[Any, ...], Run] = {}
    here = _here(locks)
    for label, recorded in locks:
        for name, entry in recorded.lock.items():
            key = (name, *sorted((out["path"], str(out.get("md5"))) for out in entry.get("outs") or ()))
            if key in found:
                run = found[key]
                found[key] = Run(**{**vars(run), "revisions": (*run.revisions, label)})
            else:
                own = seconds.get(name) if here is not None and here.lock.get(name) == entry else None
                found[key] = _run(name, label, recorded, counter, own)
    runs = list(found.values())
    billed = bills([*(recorded.lock for _, recorded in locks), params])
    return Ledger(runs, billed, _rungs(locks[0][1], runs) if len(locks) == 1 else {})


def _locks(revisions: Sequence[str] | None) -> Iterator[tuple[str, Recorded]]:
    """Iterate over (label, graph) of the dvc.lock of each revision; equal ones once if all are asked for."""
    points = _all() if revisions is None else [resolve(name) for name in revisions]
    committed = [point for point in points if point.commit]
    objects = object_ids(f"{point.commit}:./{LOCK}" for point in committed)
    content = texts(each for each in objects if each is not None)
    text_of = {point: content.get(name or "") for point, name in zip(committed, objects, strict=True)}
    seen = set()
    for point in points:
        text = text_of[point] if point.commit else LOCK.read_text(encoding="utf-8") if LOCK.is_file() else None
        if text is None and revisions is not None:
            raise UserError(f"{point.label}: no {LOCK}; expected the record of a run. Run `ladder repro`")
        if text is None or (revisions is None and text in seen):
            continue
        seen.add(text)
        yield point.label, Recorded(parse_lock(text, f"{point.label}: {LOCK}"))


def _all() -> list[Point]:
    """Return the workspace, then everything in git, the newest commits first."""
    return [resolve("workspace"), *tags(), *experiments(), *commits([str(LOCK)])]


def _here(locks: Sequence[tuple[str, Recorded]]) -> Recorded | None:
    """Return the graph of the workspace, whose entries the seconds of this machine may belong to."""
    found = next((recorded for label, recorded in locks if label == "workspace"), None)
    if found is None and LOCK.is_file():
        found = Recorded(parse_lock(LOCK.read_text(encoding="utf-8"), str(LOCK)))
    return found


def _seconds_here(params: dict[str, Any]) -> dict[str, float]:
    """Return the seconds of the last run here of each stage, if it ran with the current parameters."""
    record = read_record()
    if not record:
        return {}
    stages = expand(params)
    return {
        name: float(one["seconds"])
        for name, one in record.items()
        if name in stages and one["digest"] == digest(stages[name], params)
    }


def _run(name: str, label: str, recorded: Recorded, counter: RowTokens, own: float | None) -> Run:
    """Return the recorded numbers of one run."""
    entry, stage = recorded.lock[name], recorded.stages[name]
    record = _record(entry, counter.objects)
    trained = _number(record.get("seconds"))
    rate = _number(record.get("tokens_per_second"))
    rung = next((out.removeprefix("models/") for out in stage.outs if out.startswith("models/")), "")
    answered = next((out.removeprefix("data/answer/") for out in stage.outs if out.startswith("data/answer/")), "")
    tokens = _number(record.get("tokens"))
    if tokens is None and rate is not None and trained is not None:
        tokens = rate * trained
    if tokens is None:
        tokens = counter.generated(name, recorded)
    models = [str(each["model"]) for each in served(entry)]
    models += [dep.removeprefix("models/") for dep in stage.deps if dep.startswith("models/endpoint/")]
    return Run(
        stage=name,
        rung=rung or answered,
        revisions=(label,),
        seconds=trained if own is None else own,
        origin="here" if own is not None else "record" if trained is not None else "",
        memory_gb=_number(record.get("memory_gb")),
        tokens=None if tokens is None else round(tokens),
        tokens_per_second=rate,
        endpoint=", ".join(dict.fromkeys(models)),
    )


def _record(entry: dict[str, Any], objects: LocalObjects) -> dict[str, Any]:
    """Return the record of a training or generation among a stage's outputs; empty if it is not here."""
    for out in entry.get("outs") or ():
        if out["path"].startswith("metrics/") and out["path"].endswith(".json"):
            text = objects.text(out["path"], out.get("md5"))
            found = parse_json(text) if text else {}
            return found if isinstance(found, dict) else {}
    return {}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _rungs(recorded: Recorded, runs: Sequence[Run]) -> dict[str, dict[str, float | int | None]]:
    """Return for each rung the seconds of its own stage, with all before it, and of its answers."""
    of_stage = {run.stage: run for run in runs}
    found: dict[str, dict[str, float | int | None]] = {}
    for out, name in recorded.makers.items():
        if out.startswith("models/"):
            above = [of_stage[each] for each in recorded.upstream(name)]
            rung = out.removeprefix("models/")
            answer = recorded.makers.get(f"data/answer/{rung}")
            known = [run.seconds for run in above if run.seconds is not None]
            found[rung] = {
                "seconds": of_stage[name].seconds,
                "with_inputs": sum(known) if known else None,
                "not_recorded": len(above) - len(known),
                "answers": of_stage[answer].seconds if answer else None,
                "memory_gb": of_stage[name].memory_gb,
            }
    return found
