"""Reader for a folder of prompt seeds, validated key by key.

tasks.yaml contains requests with {slots} and topics for them. constraints.yaml contains wordings and parameter values
for every kind of check in ladder.verifiers.constraints.
"""

import string
from pathlib import Path
from typing import Any, NamedTuple

from ladder.pipeline.stage import UserError, read_yaml
from ladder.verifiers import constraints as checks


class Seeds(NamedTuple):
    """Contents of a folder of prompt seeds."""

    topics: dict[str, list[str]]
    """Slot name → topics. A slot name that ends in 2 draws another topic from the same list."""
    tasks: list[str]
    questions: list[str]
    """Requests to answer with one of several fixed answers."""
    wordings: dict[str, list[str]]
    """Kind of check → sentences that request it."""
    values: dict[str, dict[str, list[Any]]]
    """Kind of check → parameter → values to draw from."""


def slots(text: str) -> set[str]:
    """Names of the {slots} in a line."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def read_seeds(folder: Path) -> Seeds:
    """Read and validate a folder of prompt seeds. Errors: UserError naming the file, the key and the expected value."""
    path = folder / "tasks.yaml"
    tasks = _keys(read_yaml(path), {"topics", "tasks", "questions"}, f"{path}")
    topics = tasks["topics"] if isinstance(tasks["topics"], dict) else {}
    if not topics:
        raise UserError(f"{path}: topics: expected slots with their topics")
    for slot, listed in topics.items():
        _lines(listed, None, f"{path}: topics.{slot}")
    for key in ("tasks", "questions"):
        _lines(tasks[key], {name for slot in topics for name in (slot, f"{slot}2")}, f"{path}: {key}")

    path = folder / "constraints.yaml"
    constraints = _keys(read_yaml(path), set(checks.KINDS), f"{path}")
    values: dict[str, dict[str, list[Any]]] = {}
    for kind, entry in constraints.items():
        drawn = set(checks.parameters(kind)) - {"request"}
        where = f"{path}: {kind}"
        _keys(entry, {"wordings", "parameters"} if drawn else {"wordings"}, where)
        _lines(entry["wordings"], drawn, f"{where}.wordings")
        values[kind] = _keys(entry.get("parameters", {}), drawn, f"{where}.parameters")
        for name, listed in values[kind].items():
            _values(kind, name, listed, f"{where}.parameters.{name}")
    wordings = {kind: entry["wordings"] for kind, entry in constraints.items()}
    return Seeds(topics, tasks["tasks"], tasks["questions"], wordings, values)


def _keys(value: Any, wanted: set[str], where: str) -> dict[str, Any]:
    given = set(value) if isinstance(value, dict) else set()
    if missing := sorted(wanted - given):
        raise UserError(f"{where}: missing {', '.join(missing)}")
    if unknown := sorted(map(str, given - wanted)):
        raise UserError(f"{where}: no such key {', '.join(unknown)}; expected {', '.join(sorted(wanted)) or 'none'}")
    return value


def _lines(value: Any, allowed: set[str] | None, where: str) -> None:
    """Check for a list of one-paragraph texts whose slots are in `allowed`; None ignores braces."""
    if not isinstance(value, list) or not value:
        raise UserError(f"{where}: expected a list of texts, got {value!r}")
    for number, text in enumerate(value, start=1):
        if not isinstance(text, str) or not text.strip() or "\n" in text:
            raise UserError(f"{where}: line {number}: expected a text of one paragraph, got {text!r}")
        try:
            unknown = slots(text) - allowed if allowed is not None else set()
        except ValueError as error:
            raise UserError(f"{where}: line {number}: {error} in {text!r}") from None
        if unknown:
            raise UserError(f"{where}: line {number}: no such slot {', '.join(sorted(unknown))} in {text!r}")


def _values(kind: str, name: str, listed: Any, where: str) -> None:
    if not isinstance(listed, list) or not listed:
        raise UserError(f"{where}: expected a list of values, got {listed!r}")
    for value in listed:
        if not checks.fits(value, checks.parameters(kind)[name]):
            raise UserError(
                f"{where}: expected a value of {name}, got {value!r}. Quote it if it is a text: YAML reads yes, no "
                "and 1 as other types."
            )
