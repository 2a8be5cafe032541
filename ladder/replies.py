"""Replies that were paid for: kept by the content of their request, so that none is bought twice.

A store is one file of JSON Lines, `[key, reply]`, that grows at its end. A line is whole or, where a process was
killed while it wrote, cut off at the next append. Processes may share it.
"""

import fcntl
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ladder.rows import Row
from ladder.run import Refused

EMPTY: Row = {"text": "", "prompt_tokens": 0, "tokens": 0, "finished": False}
"""The reply to a request that is longer than the judge's context: no parser takes it."""


def content_key(**request: Any) -> str:
    """sha256 of all that decides a reply: model, address, messages, sampling, attempt."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


class Replies:
    """The store in `path`, held in memory as well."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, Row] = {}
        self._end = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self.read()

    def read(self) -> None:
        """Take in what any process has added."""
        with self.path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            self._take(file.seek(self._end), file.read())

    def add(self, key: str, reply: Row) -> None:
        """Keep a reply on disk before it is used."""
        line = json.dumps([key, reply]).encode() + b"\n"
        with self.path.open("r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self._take(file.seek(self._end), file.read())
            file.truncate(self._end)
            file.seek(self._end)
            if file.write(line) != len(line):
                raise Refused(f"{self.path}: no room for a reply: free some space and run again")
        self._take(self._end, line)

    def _take(self, start: int, lines: bytes) -> None:
        whole = lines[: lines.rfind(b"\n") + 1]
        try:
            self.rows.update(json.loads(line) for line in whole.splitlines())
        except ValueError:
            raise Refused(
                f"{self.path}: broken after byte {start}: delete the file, its replies are bought again"
            ) from None
        self._end = start + len(whole)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Buy while no other process does: it would buy the same, and the bound on concurrency would not hold."""
        with self.path.with_suffix(".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"{self.path.stem}: another process is asking this judge: waiting for its replies", flush=True)
                fcntl.flock(lock, fcntl.LOCK_EX)
            self.read()
            yield
