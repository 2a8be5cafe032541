"""Where a row of training data comes from, and which filters it passed, or which one rejected it.

Rows keep the `id` of the prompt that they were made from. A mixture names its rows `PART:ROW`, the row of a file of
data/part; a synthesized row lists the ids of its `parents`. The rows are in DVC's cache or the workspace; files that
are in neither are reported.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import networkx

from ladder.data.jsonl import Row, encoded, parse_row
from ladder.pipeline.errors import UserError
from ladder.plan.local_objects import LocalObjects
from ladder.plan.recorded import Recorded, values

REJECTED = ".rejected.jsonl"
"""End of the file of rejected rows beside a file of kept ones."""
OF_PART = re.compile(r"(?P<part>.+):(?P<row>[0-9]+)(\.[0-9]+)?")
SHOWN = ("sample", "edited", "finished", "passed", "split", "source")
"""Columns of a row that say where it is from, in this order."""


@dataclass(frozen=True)
class Found:
    """Rows of one key in one file: their line numbers, the first of them, and what happened to it there."""

    path: str
    stage: str
    key: str
    lines: tuple[int, ...]
    row: Row
    verdict: str
    """`passed the filters finished, exact`, `rejected by exact: …`, or empty where nothing is filtered."""
    readers: tuple[str, ...]
    """Stages that read the file."""
    inputs: tuple[str, ...]
    """Files in git that the stage made the rows from."""

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of SHOWN that the row has."""
        return {name: self.row[name] for name in SHOWN if name in self.row}


@dataclass
class RowLineage:
    """Everything found of a row, in the order of the pipeline, and the files of rows that are not here."""

    found: list[Found] = field(default_factory=list)
    not_here: list[str] = field(default_factory=list)


def row_lineage(given: str, recorded: Recorded) -> RowLineage:
    """Return where a row is, from its source on. given: KEY, the `id` of the row, or FILE:KEY.

    With FILE, only that file and the files before it. Errors: UserError for a key that no file has.
    """
    trace = _Trace(recorded)
    file, key = trace.split(given)
    wanted = {path: {key} for path in trace.files} if file is None else trace.upstream(file, key)
    result = RowLineage()
    for path in trace.files:
        if path not in wanted:
            continue
        if trace.place(path) is None:
            result.not_here.append(path)
            continue
        result.found += [trace.found(path, each, lines) for each, lines in trace.rows(path, wanted[path]).items()]
    if not result.found:
        searched = file or "any file of rows"
        missing = f"; not here: {', '.join(result.not_here)}, `dvc pull` fetches them" if result.not_here else ""
        raise UserError(f"--row: {key}: no such row in {searched}{missing}; expected the `id` of a row")
    return result


class _Trace:
    """Files of rows of a dvc.lock in the order of the pipeline."""

    def __init__(self, recorded: Recorded) -> None:
        self.recorded, self.objects = recorded, LocalObjects()
        order = list(networkx.lexicographical_topological_sort(recorded.graph))
        self.md5 = {
            out["path"]: out.get("md5")
            for name in order
            for out in recorded.lock[name].get("outs") or ()
            if out["path"].startswith("data/") and out["path"].endswith(".jsonl")
        }
        self.files = list(self.md5)

    def split(self, given: str) -> tuple[str | None, str]:
        """Return (file or None, key) of KEY or FILE:KEY. Errors: UserError for a file without recorded rows."""
        for path in sorted(self.files, key=len, reverse=True):
            for name in (path, path.removeprefix("data/"), path.removeprefix("data/").removesuffix(".jsonl")):
                if given.startswith(f"{name}:"):
                    return path, given.removeprefix(f"{name}:")
        file = given.partition(":")[0]
        if ":" in given and file.endswith(".jsonl"):
            from ladder.pipeline.names import did_you_mean

            near = did_you_mean(file, self.files)
            raise UserError(f"--row: {file}: no stage recorded it{near}; expected a file of rows in dvc.lock")
        return None, given

    def place(self, path: str) -> Path | None:
        """Return a file with the recorded rows; None if it is not here."""
        return self.objects.path(path, self.md5[path])

    def rows(self, path: str, keys: set[str]) -> dict[str, list[tuple[int, Row]]]:
        """Return (line number, row) of the rows with these keys, by key."""
        found: dict[str, list[tuple[int, Row]]] = {}
        place = self.place(path)
        if place is None:
            return found
        texts = [encoded({"id": key}, path)[8:-3] for key in keys]  # without {"id": " and "}
        with place.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if b'"id"' in line and not any(text in line for text in texts):
                    continue
                row = parse_row(line, f"{path}:{number}")
                if (key := str(row.get("id", number))) in keys:
                    found.setdefault(key, []).append((number, row))
        return found

    def found(self, path: str, key: str, rows: list[tuple[int, Row]]) -> Found:
        """Describe the rows of a key in a file."""
        stage = self.recorded.makers[path]
        readers = [name for name, each in self.recorded.stages.items() if path in each.deps]
        deps = self.recorded.stages[stage].deps
        inputs = [dep for dep in deps if dep.startswith("data/") and not self.recorded.makes(dep)]
        lines = tuple(number for number, _ in rows)
        return Found(
            path, stage, key, lines, rows[0][1], self._verdict(path, stage, rows[0][1]), tuple(readers), tuple(inputs)
        )

    def _verdict(self, path: str, stage: str, row: Row) -> str:
        if path.endswith(REJECTED) and "reason" in row:
            return f"rejected by {row.get('filter', stage)}: {row['reason']}"
        if f"{path.removesuffix('.jsonl')}{REJECTED}" not in self.recorded.makers:
            return ""
        steps = next((each.value for each in values(self.recorded.lock[stage]) if each.key.endswith(".steps")), None)
        return f"passed the filters {', '.join(_names(steps))}" if isinstance(steps, list) else ""

    def upstream(self, file: str, key: str) -> dict[str, set[str]]:
        """Return the keys to look for in a file and in each file that it was made from."""
        wanted: dict[str, set[str]] = {}
        queue = [(file, key)]
        while queue:
            path, one = queue.pop()
            if one in wanted.setdefault(path, set()):
                continue
            wanted[path].add(one)
            rows = self.rows(path, {one}).get(one, [])
            queue += [pair for _, row in rows[:1] or [(0, {})] for pair in self._before(path, one, row)]
        return wanted

    def _before(self, path: str, key: str, row: Row) -> Iterator[tuple[str, str]]:
        """Iterate over (file, key) of the rows that a row was made from."""
        source = row.get("source")
        parents = source.get("parents") if isinstance(source, dict) else None
        keys = [key, *map(str, parents if isinstance(parents, list) else ())]
        part = OF_PART.fullmatch(key)
        for dep in self.recorded.stages[self.recorded.makers[path]].deps:
            for before in self.files:
                if before != dep and not before.startswith(f"{dep}/"):
                    continue
                if part and PurePosixPath(before).stem == PurePosixPath(part["part"]).name:
                    number = self._number(before, int(part["row"]))
                    yield before, number
                else:
                    yield from ((before, each) for each in keys)

    def _number(self, path: str, number: int) -> str:
        """Return the key of the row with a number; the number if the file is not here."""
        place = self.place(path)
        if place is None:
            return str(number)
        with place.open("rb") as stream:
            line = next((line for place, line in enumerate(stream, start=1) if place == number), b"{}")
        return str(parse_row(line, f"{path}:{number}").get("id", number))


def _names(steps: list[Any]) -> list[str]:
    return [str(next(iter(step))) if isinstance(step, dict) and step else str(step) for step in steps]
