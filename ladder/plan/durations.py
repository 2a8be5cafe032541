"""How long the remaining stages of a run take: seconds of former runs, else the estimates of `ladder plan`.

The basis of a stage is the first of these that is known:

1. its seconds when it last ran here with the same parameters (RECORD),
2. the seconds in its record in metrics/, if its parameters are those of dvc.lock,
3. the estimate of `ladder plan`, for a stage that trains or generates,
4. the mean of the stages of the same kind that ended in this run: of `heldout@sft/chat` for `heldout@dpo/chat`,
5. the mean of all short stages of this run, for a stage that neither trains nor generates.

The stages that ended correct the first three: those that are left are scaled by actual / expected seconds. To an
estimate of `ladder plan` the start of a process is added, which is the mean of the short stages. If one stage has no
basis, the time of all is unknown.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ladder.data.atomic_write import whole
from ladder.data.strict_json import parse_json
from ladder.pipeline.errors import UserError
from ladder.plan.changes import Change
from ladder.plan.costs import Costs
from ladder.plan.expand import Stage, at

RECORD = Path(".dvc/tmp/ladder/seconds.json")
"""Seconds of the last run of each stage on this machine; git and DVC ignore the folder."""
VERSION = 1
LARGEST = 10.0
"""Largest correction by the stages that ended: a short one may have ended much later than expected."""
Kind = Literal["measured", "training", "generation", "short", "unknown"]


@dataclass(frozen=True)
class Basis:
    """Expected seconds of a stage; None for `short` and `unknown`, which have no number of their own."""

    kind: Kind
    seconds: float | None = None


@dataclass
class Durations:
    """Expected seconds of stages, corrected by the stages that have ended.

    bases: the basis of each stage. digests: hash of what a stage's duration depends on, for RECORD.
    """

    bases: dict[str, Basis]
    digests: dict[str, str] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    """Actual seconds of the stages that ran."""

    def left(self, names: Iterable[str]) -> float | None:
        """Return the seconds that these stages take together; None if that of one stage is unknown."""
        parts = [self._expected(name) for name in names]
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None

    def _expected(self, name: str) -> float | None:
        """Return the seconds of one stage: those of its kind, or of its basis where none of its kind has ended."""
        basis = self.basis(name)
        alike = [other for other in self.ended if _kind(other) == _kind(name)]
        same = [other for other in alike or self.ended if self.basis(other).kind == basis.kind]
        if basis.seconds is None:
            return self._mean(alike) or (self._mean(same) if basis.kind == "short" else None)
        if basis.kind == "measured":
            return basis.seconds * _ratio(sum(map(self.ended.__getitem__, same)), self._seconds(same))
        start = self._mean([other for other in self.ended if self.basis(other).kind == "short"]) or 0.0
        worked = sum(max(self.ended[other] - start, 0.0) for other in same)
        return start + basis.seconds * _ratio(worked, self._seconds(same))

    def _seconds(self, names: Iterable[str]) -> float:
        return sum(self.basis(name).seconds or 0.0 for name in names)

    def _mean(self, names: Sequence[str]) -> float | None:
        return sum(self.ended[name] for name in names) / len(names) if names else None

    def basis(self, name: str) -> Basis:
        """Return the basis of a stage."""
        return self.bases.get(name, Basis("unknown"))

    def end(self, name: str, seconds: float) -> None:
        """Note that a stage ran for so many seconds, here and in RECORD."""
        self.ended[name] = seconds
        if name not in self.digests or not RECORD.parents[1].is_dir():
            return
        entries = read_record() | {name: {"digest": self.digests[name], "seconds": round(seconds, 2)}}
        with suppress(OSError), whole(RECORD) as file:  # a full disk must not stop the run
            file.write(json.dumps({"version": VERSION, "stages": entries}).encode())


def _kind(name: str) -> str:
    return name.partition("@")[0]


def _ratio(actual: float, expected: float) -> float:
    """Return actual / expected within LARGEST; 1 if nothing has ended."""
    return min(max(actual / expected, 1 / LARGEST), LARGEST) if expected else 1.0


def durations(params: dict[str, Any], found: dict[str, Change], lock: dict[str, Any], device: str) -> Durations:
    """Return the expected durations of all stages.

    found: what a run would do with them. lock: entries of dvc.lock. device: a GPU of the rates, or `cpu`.
    """
    costs, record = Costs(found, lock, device), read_record()
    digests = {name: digest(change.stage, params) for name, change in found.items()}
    bases = {}
    for name, change in found.items():
        entry = record.get(name, {})
        if entry.get("digest") == digests[name]:
            bases[name] = Basis("measured", float(entry["seconds"]))
        else:
            bases[name] = planned(change, costs)
    return Durations(bases, digests)


def planned(change: Change, costs: Costs) -> Basis:
    """Return the basis of a stage that has not run here with these parameters."""
    changed = any(reason.kind in ("new", "param") for reason in change.reasons)
    if not changed and (seconds := costs.last_seconds(change.stage)) is not None:
        return Basis("measured", seconds)
    try:
        cost = costs.cost(change)
    except UserError:  # a parent that no stage makes: the stage reports it when it runs
        return Basis("unknown")
    if cost is None:
        return Basis("short")
    if cost.time is None or cost.endpoints:
        return Basis("unknown")
    return Basis("generation" if cost.method == "generate" else "training", cost.time.seconds)


def digest(stage: Stage, params: dict[str, Any]) -> str:
    """Hash of a stage's command and of its parameters."""
    values = [stage.cmd, {key: at(params, key) for key in stage.params}]
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:16]


def read_record() -> dict[str, dict[str, Any]]:
    """Return {stage: {digest, seconds}} of RECORD; empty if it is missing or of another version."""
    try:
        content = parse_json(RECORD.read_text(encoding="utf-8"))
        entries = content["stages"] if content["version"] == VERSION else {}
        return {name: {"digest": str(one["digest"]), "seconds": float(one["seconds"])} for name, one in entries.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
