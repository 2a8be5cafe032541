"""Replies that were paid for: kept by the content of their request, so that none is bought twice.

A store is one file of JSON Lines, `[key, reply]`, that grows at its end. A last line that is not whole, of a process
that was killed while it wrote, is cut off at the next append; any other that is broken is left out, told of, and stays
where it is: its reply is bought again. Processes may share a store. Memory holds where each reply lies, not the reply:
about 230 bytes for each.
"""

import fcntl
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from ladder.data.jsonl import Row
from ladder.pipeline.launch import cache
from ladder.pipeline.stage import UserError

EMPTY: Row = {"text": "", "prompt_tokens": 0, "tokens": 0, "finished": False}
"""The reply to a request that has none (it is longer than the model's context): no parser takes it."""
SYNC_SECONDS = 1.0
"""How often the file is synchronized with the disk: a crash of the machine costs the replies since then."""
KEY = re.compile(rb'\["([0-9a-f]{64})", ')
"""What a line begins with."""


def content_key(**request: Any) -> str:
    """sha256 of all that decides a reply: model, messages, sampling, seed, form."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def store_of(model: str, **identity: str) -> "Replies":
    """The store of one model's replies, under `replies/` of the cache (LADDER_WORK): outside of what DVC deletes."""
    words = re.sub(r"[^\w.-]+", "-", model)
    return Replies(cache() / "replies" / f"{words}-{content_key(model=model, **identity)[:12]}.jsonl")


class Replies:
    """The store in `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places: dict[bytes, tuple[int, int]] = {}
        self._end = self._broken = 0
        self._synced = 0.0
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self.read()

    def __contains__(self, key: str) -> bool:
        return bytes.fromhex(key) in self._places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, key: str) -> Row:
        start, length = self._places[bytes.fromhex(key)]
        with self.path.open("rb", buffering=0) as file:
            line = os.pread(file.fileno(), length, start)
        reply: Row = json.loads(line)[1]
        return reply

    def read(self) -> None:
        """Take in what any process has added."""
        with self.path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            self._take_in(file)

    def add(self, key: str, reply: Row) -> None:
        """Keep a reply on disk before it is used."""
        line = json.dumps([key, reply]).encode() + b"\n"
        with self.path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self._take_in(file)
            file.truncate(self._end)
            try:
                written = os.pwrite(file.fileno(), line, self._end)
                if time.monotonic() - self._synced > SYNC_SECONDS:
                    os.fsync(file.fileno())
                    self._synced = time.monotonic()
            except OSError as error:
                raise UserError(f"{self.path}: a reply cannot be kept: {error.strerror}") from None
        if written != len(line):
            raise UserError(f"{self.path}: no room for a reply: free some space and run again")
        self._places[bytes.fromhex(key)] = (self._end, len(line))
        self._end += len(line)

    def _take_in(self, file: Any) -> None:
        """Note the whole lines from where this store has read to; the last may be under way, or torn."""
        file.seek(self._end)
        before = self._broken
        for line in file:
            if not line.endswith(b"\n"):
                break
            if key := _key(line):
                self._places[key] = (self._end, len(line))
            else:
                self._broken += 1
            self._end += len(line)
        if new := self._broken - before:
            lines = "1 broken line" if new == 1 else f"{new} broken lines"
            print(f"{self.path}: {lines} left out; what was there is bought again", file=sys.stderr, flush=True)

    @contextmanager
    def alone(self, *, tell: bool) -> Iterator[None]:
        """Buy while no other process does: it would buy the same, and the bound on concurrency would not hold."""
        with self.path.with_suffix(".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if tell:
                    print(f"{self.path.stem}: another process asks this model: waiting for it", file=sys.stderr)
                fcntl.flock(lock, fcntl.LOCK_EX)
            self.read()
            yield


def _key(line: bytes) -> bytes | None:
    """The key of a line that holds a reply; None for one that is broken."""
    if (found := KEY.match(line)) is None:
        return None
    try:
        whole = orjson.loads(line)
    except ValueError:
        try:
            whole = json.loads(line)  # which takes half of a surrogate pair too, as a model may write it
        except ValueError:
            return None
    held = isinstance(whole, list) and len(whole) == 2 and isinstance(whole[1], dict)
    return bytes.fromhex(found[1].decode()) if held else None
