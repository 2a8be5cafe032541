"""Cache of verdicts from batch filters, keyed by row content.

The files are ${LADDER_WORK}/verdicts/<filter>-<fingerprint>.sqlite. The fingerprint covers all other inputs of a
verdict: the parameters, the filter's code and all modules of this repository that it imports, the base model, the
benchmarks, and the installed packages. A row is judged once per fingerprint. Delete the folder to clear the cache.
"""

import contextlib
import hashlib
import importlib.metadata
import inspect
import json
import sqlite3
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from ladder.data.jsonl import Row
from ladder.pipeline.code_text import essence
from ladder.pipeline.imports import Imports, imported, read_imports
from ladder.pipeline.launch import cache

REPOSITORY = Path(__file__).resolve().parents[2]
BUSY_SECONDS = 120.0
"""Seconds to wait while another process writes verdicts of the same filter."""


class Undecided(str):
    """Rejection reason for a row without a verdict, for example after a failed request. It is not cached."""


class Remembered:
    """Wrapper of a batch filter that judges only rows without a cached verdict."""

    def __init__(self, judge: partial[list[str | None]]) -> None:
        self.judge = judge
        name = f"{judge.func.__name__}-{fingerprint(judge)}.sqlite"
        self.path = cache() / "verdicts" / name

    def __call__(self, batch: list[Row]) -> list[str | None]:
        keys = [hashlib.sha256(json.dumps(row, sort_keys=True).encode()).digest() for row in batch]
        with self._open() as store:
            known = {key: reason for key in keys for (reason,) in store.execute(LOOK, (key,))}
            new = {key: row for key, row in zip(keys, batch, strict=True) if key not in known}
            if new:
                judged = dict(zip(new, self.judge(list(new.values())), strict=True))
                store.executemany(
                    KEEP, ((key, reason) for key, reason in judged.items() if type(reason) is not Undecided)
                )
                store.commit()
                known |= judged
        return [known[key] for key in keys]

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(self.path, timeout=BUSY_SECONDS)) as store:
            store.execute("CREATE TABLE IF NOT EXISTS verdict (row BLOB PRIMARY KEY, reason TEXT) WITHOUT ROWID")
            yield store


LOOK = "SELECT reason FROM verdict WHERE row = ?"
KEEP = "INSERT OR REPLACE INTO verdict VALUES (?, ?)"


def fingerprint(judge: partial[Any]) -> str:
    """First 16 hex digits of the sha256 over all inputs of a filter's verdicts except the row."""
    digest = hashlib.sha256()
    for name, value in sorted(judge.keywords.items()):
        content = _content(value) if isinstance(value, Path) else json.dumps(value, sort_keys=True)
        digest.update(f"{name}={content}\n".encode())
    for path in sorted(code(Path(inspect.getfile(judge.func)).resolve())):
        digest.update(essence(path))
    digest.update(_installed())
    return digest.hexdigest()[:16]


@lru_cache(maxsize=4)
def _content(path: Path) -> str:
    """sha256 over the names and bytes of a model's files, or of one file if `path` is a file."""
    digest = hashlib.sha256()
    for file in sorted([path, *path.rglob("*")]):
        if file.is_file():
            digest.update(file.relative_to(path).as_posix().encode())
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def code(module: Path) -> set[Path]:
    """Source files of a module of this repository and of the modules that it imports, directly or indirectly."""
    return {path for path in imported(module, _imports()) if path.suffix}


@lru_cache(maxsize=1)
def _imports() -> Imports:
    return read_imports([REPOSITORY / name for name in ("ladder", "stages", "benchmarks")])


@lru_cache(maxsize=1)
def _installed() -> bytes:
    return "\n".join(sorted(f"{one.name}=={one.version}" for one in importlib.metadata.distributions())).encode()
