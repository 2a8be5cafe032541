"""Cells of a rung's answers, one per benchmark, each with the fingerprint of what it was made of.

A cell is `<benchmark>.jsonl` with `<benchmark>.fingerprint.json` beside it. The folder is a DVC output with `persist`,
so a run finds the cells of the last one, also after `dvc pull` in a fresh clone. It asks only the cells whose
fingerprint differs, and deletes those that are no longer wanted. The result has the bytes of a run from nothing.

Fingerprint fields: the sha256 of the questions, the rung's identity, the settings, the engine, the sha256 of the code
that determines answers, library versions, the device, and the sha256 of the answers. The device is recorded and not
compared: moving to another machine asks nothing again, as everywhere in the pipeline.

Other stages keep the records of all cells in one index, an output of its own (ladder/data/cells.py). Here a record is a
file beside its answers, so that a rung's answers are one output, and some of its fields are not compared.
"""

import json
from pathlib import Path

from ladder.data.cells import file_hash, text_hash
from ladder.data.jsonl import Row, read_json, write_json, write_rows
from ladder.eval.ask import Asking
from ladder.inference.types import EngineName
from ladder.pipeline.stage import UserError

FINGERPRINT = ".fingerprint.json"
NOT_COMPARED = ("device", "answers")
ASKING = ("eval/ask.py", "eval/answer_cells.py")
"""Modules that ask the questions and write the rows; they count beside those that generate."""


def engine_name(entry: Asking) -> EngineName:
    """Engine that answers a cell, with `auto` resolved to decoder or endpoint."""
    return "endpoint" if entry.endpoint is not None else "decoder" if entry.engine == "auto" else entry.engine


def fingerprint(questions: list[Row], rung: str, entry: Asking, *, code: str, made_on: Row) -> Row:
    """Build a cell's fingerprint, without the answers' hash. rung: the identity of the rung that answers.

    An endpoint's address, limits and prices decide no answer, so of the endpoint only model, limit and extra count.
    """
    settings = entry.model_dump(exclude={"engine", "endpoint", "budget"})
    if entry.endpoint is not None:
        settings["endpoint"] = entry.endpoint.model_dump(include={"model", "limit", "extra"})
    return {
        "questions": text_hash(json.dumps(questions, sort_keys=True).encode()),
        "rung": rung,
        "settings": settings,
        "engine": engine_name(entry),
        "code": code,
        **made_on,
    }


def changes(folder: Path, name: str, wanted: Row) -> list[str] | None:
    """Compare a cell with the fingerprint that it should have.

    Returns the names of the fields that differ; an empty list for a cell that is up to date, None if there is no
    complete cell.
    """
    path, record = folder / f"{name}.jsonl", folder / f"{name}{FINGERPRINT}"
    if not path.is_file() or not record.is_file():
        return None
    try:
        found = read_json(record)
    except UserError:
        return None
    if isinstance(libraries := found.get("libraries"), dict):  # those installed here: a cell of vLLM needs none
        found["libraries"] = {name: libraries[name] for name in wanted.get("libraries", {}) if name in libraries}
    differ = [field for field in wanted if field not in NOT_COMPARED and found.get(field) != wanted[field]]
    if found.get("answers") != file_hash(path):
        differ.append("answers")
    return differ


def write_cell(folder: Path, name: str, rows: list[Row], made_of: Row) -> None:
    """Write a cell: the answers, then the fingerprint, so that a killed run leaves no fingerprint of other answers."""
    path = folder / f"{name}.jsonl"
    write_rows(path, rows)
    write_json(folder / f"{name}{FINGERPRINT}", {**made_of, "answers": file_hash(path)})


def remove_others(folder: Path, names: list[str]) -> list[str]:
    """Delete the cells, and any other file, that belong to none of `names`; return the deleted cells' names."""
    kept = {f"{name}{end}" for name in names for end in (".jsonl", FINGERPRINT)}
    removed = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name not in kept and path.is_file():
            path.unlink()
            removed += [path.stem] if path.suffix == ".jsonl" else []
    return removed
