"""How many rows and tokens a stage reads: from its data where present, else from dvc.lock and params.yaml."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ladder.data.strict_json import parse_json
from ladder.pipeline.errors import UserError
from ladder.plan.changes import Change
from ladder.plan.expand import Stage

BYTES_PER_TOKEN = 4.2
"""Bytes of our JSONL rows for a token: 4.0 to 5.4 in the committed ladder, JSON included."""
SAMPLED = 2000
"""Rows that are tokenized, at most; the others are scaled."""


def setting(stage: Stage, key: str, default: int) -> int:
    """Return a whole number of a stage's `trainer`. Errors: UserError for another value."""
    found = stage.values["trainer"].get(key)
    found = default if found is None else found
    if not isinstance(found, int) or isinstance(found, bool):
        raise UserError(f"params.yaml: {stage.params[0]}.trainer.{key}: expected a whole number, got {found!r}")
    return found


def batch_rows(stage: Stage) -> int:
    """Return the rows of one optimizer step on one GPU."""
    return setting(stage, "per_device_train_batch_size", 8) * setting(stage, "gradient_accumulation_steps", 1)


@dataclass(frozen=True)
class Rows:
    """Size of a file of rows. Each number is None if unknown."""

    rows: int | None = None
    tokens: float | None = None
    longest: int | None = None
    """Tokens of the longest row."""
    basis: str = "unknown"
    """`data`, `last run` (sizes in dvc.lock) or `params` (an upper bound)."""


def rows_of(path: str, found: dict[str, Change], lock: dict[str, Any], split: str | None = None) -> Rows:
    """Return the size of a JSONL file that a stage makes or the user gives."""
    file = Path(path)
    if file.suffix == ".jsonl" and file.is_file():
        return measured(file, split, file.stat().st_mtime_ns)
    makers = {out: change for change in found.values() for out in change.stage.outs}
    bound = _bound(path, makers, split)
    maker = makers.get(path)
    if maker is not None:
        entry = lock.get(maker.stage.name) or {}
        sizes = {out["path"]: out.get("size") for out in entry.get("outs") or ()}
        changed = any(reason.kind in ("param", "new", "command") for reason in maker.reasons)
        if file.suffix == ".jsonl" and sizes.get(path) and not changed and split is None:
            return Rows(bound, sizes[path] / BYTES_PER_TOKEN, None, "last run")
    return Rows(bound, None, None, "params" if bound else "unknown")


def _bound(path: str, makers: dict[str, Change], split: str | None, depth: int = 0) -> int | None:
    """Return the most rows that params.yaml allows a file to have; None if it does not say."""
    maker = makers.get(path)
    if maker is None or depth > 20:
        return None
    values = maker.stage.values
    count = values.get("count")
    if isinstance(count, dict) and all(isinstance(each, int) for each in count.values()):
        return int(count[split]) if split in count else sum(count.values())
    for key in ("count", "rows"):
        if isinstance(values.get(key), int) and values[key] > 0:
            return int(values[key])
    inputs = [dep for dep in maker.stage.deps if dep.startswith("data/") and dep in makers]
    above = _bound(inputs[0], makers, values.get("split") or None, depth + 1) if inputs else None
    if above is None:
        return None
    steps = values.get("steps")
    best = next((step["best"] for step in steps if isinstance(step, dict) and "best" in step), None) if isinstance(
        steps, list
    ) else None  # fmt: skip
    if isinstance(best, dict) and isinstance(best.get("per_prompt"), int):
        prompts = _prompts(inputs[0], makers, depth + 1)
        return min(above, prompts * best["per_prompt"]) if prompts else above
    times = values.get("pairs_per_prompt") or values.get("samples") or 1
    return above * times if isinstance(times, int) else None


def _prompts(path: str, makers: dict[str, Change], depth: int) -> int | None:
    """Return how many prompts the answers of a file belong to."""
    values = makers[path].stage.values
    inputs = [dep for dep in makers[path].stage.deps if dep.startswith("data/") and dep in makers]
    return _bound(inputs[0], makers, values.get("split") or None, depth) if inputs else None


@cache
def measured(path: Path, split: str | None, _changed: int) -> Rows:
    """Count the rows and tokens of a JSONL file, by the base's tokenizer if it is there, else 4 characters a token."""
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    if split is not None:
        lines = [line for line in lines if f'"split": "{split}"' in line or f'"split":"{split}"' in line]
    lengths = _lengths([_text(line) for line in lines[:SAMPLED]])
    if not lengths:
        return Rows(len(lines), 0.0, 0, "data")
    return Rows(len(lines), sum(lengths) * len(lines) / len(lengths), max(lengths), "data")


def _text(line: str) -> str:
    try:
        return " ".join(_strings(parse_json(line)))
    except ValueError:
        return line


def _strings(value: Any) -> list[str]:
    """Return the contents of a row's messages, prompts and answers."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for each in value for text in _strings(each)]
    if isinstance(value, dict):
        kept = ("messages", "prompt", "completion", "chosen", "rejected", "text", "content")
        return [text for key in kept if key in value for text in _strings(value[key])]
    return []


def _lengths(texts: list[str]) -> list[int]:
    tokenizer = Path("models/base/tokenizer.json")
    if not tokenizer.is_file():
        return [1 + len(text) // 4 for text in texts]
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_file(str(tokenizer))
    return [len(found.ids) for found in loaded.encode_batch(texts)]


def steps_tokens(stage: Stage, rows: Rows) -> tuple[float | None, str]:
    """Return (tokens that a training stage trains on, basis); an upper bound with the basis `params`.

    `max_steps` bounds the epochs.
    """
    trainer = stage.values["trainer"]
    batch, longest, most = batch_rows(stage), longest_row(stage), setting(stage, "max_steps", -1)
    epochs = trainer.get("num_train_epochs", 3.0)
    if not isinstance(epochs, int | float) or isinstance(epochs, bool):
        raise UserError(f"params.yaml: {stage.params[0]}.trainer.num_train_epochs: expected a number, got {epochs!r}")
    if rows.tokens is not None and rows.rows:
        passes = min(epochs, most * batch / rows.rows) if most > 0 else epochs
        if most > 0 and "num_train_epochs" not in trainer:
            passes = most * batch / rows.rows
        return rows.tokens * passes, rows.basis
    if rows.tokens is not None and most <= 0:
        return rows.tokens * epochs, rows.basis
    if longest is None:
        return None, "unknown"
    if most > 0:
        return float(most * batch * longest), "params"
    return (rows.rows * epochs * longest, "params") if rows.rows else (None, "unknown")


def longest_row(stage: Stage) -> int | None:
    """Return the most tokens of a training row that params.yaml allows; None if it does not say."""
    values, trainer = stage.values, stage.values["trainer"]
    for found in (trainer.get("max_length"), values.get("max_length"), trainer.get("max_completion_length")):
        if isinstance(found, int):
            return found
    new = values.get("max_new_tokens")
    return new if isinstance(new, int) else 1024 if "max_length" not in trainer else None
