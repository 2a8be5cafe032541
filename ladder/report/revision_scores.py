"""Scores of all rungs at several revisions, from the report/table.json and the dvc.lock that git keeps of each.

The settings behind a score are those of `ladder diff` (ladder/eval/revisions.py): generation and scoring, without the
number of questions and of bootstrap resamples. Two scores with other settings are not compared.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ladder.data.strict_json import parse_json
from ladder.eval.revisions import Revision
from ladder.pipeline.errors import UserError
from ladder.pipeline.git_history import Point, commits, experiments, object_ids, resolve, tags, texts
from ladder.plan.expand import parse_lock
from ladder.plan.recorded import Recorded

TABLE, LOCK = "report/table.json", "dvc.lock"
UNKNOWN = "unknown"
"""Digest of settings that are not recorded."""


@dataclass(frozen=True)
class Score:
    """Score of a rung on a benchmark with its 95% interval, in the benchmark's unit."""

    benchmark: str
    score: float
    low: float
    high: float
    n: int | None
    """Number of questions; None if it is not recorded."""
    unit: str
    better: str
    """`higher` or `lower`."""
    settings: dict[str, Any] | None
    """Generation and scoring behind the score; None if dvc.lock does not record them."""
    seeds: int = 1

    @property
    def digest(self) -> str:
        """Hash of the settings, 8 digits; UNKNOWN without them."""
        return UNKNOWN if self.settings is None else digest(self.settings)


@dataclass(frozen=True)
class Line:
    """A rung at a revision."""

    revision: Point
    rung: str
    method: str
    parent: str
    scores: dict[str, Score]
    """By benchmark."""
    params: dict[str, Any]
    """{key: value} of all parameters that the rung depends on, from dvc.lock; empty if it is not recorded there."""


@dataclass
class Scores:
    """Lines of several revisions, in their order, and what the reader has to know about them."""

    lines: list[Line] = field(default_factory=list)
    alike: dict[str, list[Point]] = field(default_factory=dict)
    """Commits with the same scores, settings and parameters as the revision of this label, which is shown."""
    notes: list[str] = field(default_factory=list)

    @property
    def points(self) -> list[Point]:
        """The revisions with lines, each once."""
        return list(dict.fromkeys(line.revision for line in self.lines))

    @property
    def benchmarks(self) -> list[str]:
        """All benchmarks, in the order of the tables."""
        return list(dict.fromkeys(name for line in self.lines for name in line.scores))

    @property
    def rungs(self) -> list[str]:
        """All rungs, in the order of the tables."""
        return list(dict.fromkeys(line.rung for line in self.lines))

    def differing(self) -> list[str]:
        """Return the parameters whose values differ between two lines of the same rung."""
        found: dict[str, None] = {}
        for rung in self.rungs:
            params = [line.params for line in self.lines if line.rung == rung]
            keys = dict.fromkeys(key for each in params for key in each)
            found |= {key: None for key in keys if len({shown_value(each, key) for each in params}) > 1}
        return list(found)


class _RecordedRevision(Revision):
    """Settings of the cells of a dvc.lock, without a repository of DVC."""

    def __init__(self, point: Point, lock: dict[str, Any]) -> None:
        self.label, self.commit, self._lock = point.label, point.commit, lock

    @cached_property
    def _stages(self) -> dict[str, Any]:
        return self._lock


def digest(content: Any) -> str:
    """Hash of JSON values, 8 digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:8]


def shown_value(params: dict[str, Any], key: str) -> str:
    """Format a parameter's value; empty if it is absent."""
    if key not in params:
        return ""
    value = params[key]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def scores(revisions: Sequence[str] | None) -> Scores:
    """Return the scores at these revisions, or with None at all commits, tags and experiments.

    Errors: UserError for an unknown revision, or one without a table of rungs.
    """
    points = _all() if revisions is None else [resolve(name) for name in revisions]
    contents = _contents(points)
    found = Scores()
    seen: dict[str, str] = {}
    parsed: dict[tuple[str, str], list[Line] | str] = {}
    for point in points:
        table, lock = contents[point]
        if table is None:
            if revisions is None:
                continue
            raise UserError(f"{point.label}: no {TABLE}; expected the file that stage report makes. See `ladder repro`")
        if (table, lock or "") not in parsed:
            parsed[table, lock or ""] = _lines(point, table, lock)
        lines = parsed[table, lock or ""]
        if isinstance(lines, str):
            if revisions is not None:
                raise UserError(f"{point.label}: {lines}")
            found.notes.append(f"{point.label} is not shown: {lines}")
            continue
        content = digest([_content(line) for line in lines])
        if revisions is None and point.kind in ("commit", "workspace") and content in seen:
            found.alike.setdefault(seen[content], []).append(point)
            continue
        seen.setdefault(content, point.label)
        found.lines += [replace(line, revision=point) for line in lines]
    if revisions is None:
        found.lines.sort(key=lambda line: (line.revision.commit is not None, -line.revision.seconds))  # newest first
    if not found.lines:
        said = f"{'; '.join(found.notes)}. " if found.notes else ""
        raise UserError(f"{TABLE}: {said}no revision has it; expected the table of rungs. Run `ladder repro report`")
    return found


def _all() -> list[Point]:
    """Return tags and experiments, then commits, the oldest first, and the workspace."""
    history = list(reversed(commits([TABLE, LOCK])))
    named = [*tags(), *experiments()]
    taken = {point.commit for point in named}
    points = [*named, *(point for point in history if point.commit not in taken)]
    return [*points, resolve("workspace")] if Path(TABLE).is_file() else points


def _contents(points: Sequence[Point]) -> dict[Point, tuple[str | None, str | None]]:
    """Return the texts of the table and of dvc.lock at each revision."""
    committed = [point for point in points if point.commit]
    names = [f"{point.commit}:./{path}" for point in committed for path in (TABLE, LOCK)]
    objects = object_ids(names)
    read = texts(each for each in objects if each is not None)
    pairs = zip(objects[::2], objects[1::2], strict=True)
    found = {
        point: (read.get(table or ""), read.get(lock or ""))
        for point, (table, lock) in zip(committed, pairs, strict=True)
    }
    for point in points:
        if point.commit is None:
            found[point] = (_here(TABLE), _here(LOCK))
    return found


def _here(path: str) -> str | None:
    return Path(path).read_text(encoding="utf-8") if Path(path).is_file() else None


def _lines(point: Point, table: str, lock: str | None) -> list[Line] | str:
    """Return the lines of one revision, or the reason why its table cannot be read."""
    entries = parse_lock(lock, f"{point.label}: {LOCK}") if lock else {}
    recorded, revision = Recorded(entries), _RecordedRevision(point, entries)
    try:
        return [_line(point, line, recorded, revision) for line in parse_json(table)]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        return f"{TABLE} is not in the form that is written now ({type(error).__name__}: {error})"


def _line(point: Point, line: dict[str, Any], recorded: Recorded, revision: Revision) -> Line:
    rung = str(line["rung"])
    scores = {name: _score(name, rung, one, revision) for name, one in line["benchmarks"].items()}
    params = recorded.values_of(f"models/{rung}")
    return Line(point, rung, str(line["method"]), str(line.get("parent") or ""), scores, params)


def _score(name: str, rung: str, one: dict[str, Any], revision: Revision) -> Score:
    low, high = one["interval"]
    made_by = one["made_by"]
    cell = revision.cells.get((name, rung))
    settings = None if cell is None else revision.settings(cell)
    return Score(
        name, float(one["score"]), float(low), float(high), made_by.get("rows"), str(made_by["headline"]["unit"]),
        str(made_by["headline"]["better"]), settings, len(one.get("by_seed") or [0]),
    )  # fmt: skip


def _content(line: Line) -> list[Any]:
    """Return what makes a line equal to one of another revision."""
    numbers = [[one.benchmark, one.score, one.low, one.high, one.n, one.digest] for one in line.scores.values()]
    return [line.rung, line.method, line.parent, numbers, line.params]


def chosen(found: Scores, rungs: Iterable[str], benchmarks: Iterable[str]) -> Scores:
    """Return the lines of these rungs with these benchmarks; all if none is named. Errors: UserError for a name."""
    for option, given, known in (("--rungs", rungs, found.rungs), ("--benchmarks", benchmarks, found.benchmarks)):
        for name in given:
            if name not in known:
                from ladder.pipeline.names import did_you_mean

                raise UserError(f"{option}: {name}: not in these tables{did_you_mean(name, known)}; expected one of "
                                f"{', '.join(known)}")  # fmt: skip
    keep, columns = list(rungs) or found.rungs, list(benchmarks) or found.benchmarks
    lines = [
        replace(line, scores={name: line.scores[name] for name in columns if name in line.scores})
        for line in found.lines
        if line.rung in keep
    ]
    measured = {line.revision.label for line in lines if line.scores}
    bare = [label for label in dict.fromkeys(line.revision.label for line in found.lines) if label not in measured]
    notes = [f"{label} is not shown: no score of these rungs on these benchmarks" for label in bare]
    return Scores([line for line in lines if line.revision.label in measured], found.alike, [*found.notes, *notes])
