"""Store of generated and purchased text, keyed by request content, so that nothing is requested twice.

A store is one append-only JSON Lines file of `[key, reply]`. A reply is an endpoint's or a judge's reply, or a rung's
answers to a portion of conversations (ladder.inference.answer_cache). An incomplete last line, left by a process killed
while writing, is truncated at the next append. Any other broken line is reported on stderr, skipped and left in the
file; its reply is requested again. Several processes may share a store. Memory holds only the file offset of each
reply, about 230 bytes per reply.
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
"""Stand-in for a missing reply (the request exceeds the model's context); every verdict parser rejects it."""
SYNC_SECONDS = 1.0
"""Interval between fsync calls. A machine crash loses the replies since the last one."""
KEY = re.compile(rb'\["([0-9a-f]{64})", ')
"""Start of a valid line."""


def content_key(**request: Any) -> str:
    """Compute the sha256 of everything that determines a reply: model, messages, sampling, seed, format."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def store_of(model: str, **identity: str) -> "Replies":
    """Open the store of one model, in `replies/` of LADDER_WORK, where DVC deletes nothing."""
    words = re.sub(r"[^\w.-]+", "-", model)
    return Replies(cache() / "replies" / f"{words}-{content_key(model=model, **identity)[:12]}.jsonl")


class Replies:
    """Store in the file `path`."""

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
        """Index the replies that any process has appended."""
        with self.path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            self._take_in(file)

    def add(self, key: str, reply: Row) -> None:
        """Write a reply to disk before it is used. Errors: UserError when it cannot be written."""
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
                raise UserError(f"{self.path}: cannot save a reply: {error.strerror}") from None
        if written != len(line):
            raise UserError(f"{self.path}: no space to save a reply. Free some space, and run again.")
        self._places[bytes.fromhex(key)] = (self._end, len(line))
        self._end += len(line)

    def _take_in(self, file: Any) -> None:
        """Index complete lines from the last position read; the last line may be incomplete, or still being written."""
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
            lines = "1 damaged line" if new == 1 else f"{new} damaged lines"
            print(f"{self.path}: {lines} ignored; their requests are sent again", file=sys.stderr, flush=True)

    @contextmanager
    def alone(self, part: str = "", *, report: bool) -> Iterator[None]:
        """Lock against other processes, which would buy the same replies and exceed the limit on concurrency.

        `part` names a lock of its own, for replies that are independent of the store's others.
        """
        with self.path.with_suffix(f".{part}.lock" if part else ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if report:
                    print(f"{self.path.stem}: another process queries this model; waiting for it", file=sys.stderr)
                fcntl.flock(lock, fcntl.LOCK_EX)
            self.read()
            yield


def _key(line: bytes) -> bytes | None:
    """Key of a line that holds a reply; None for a broken line."""
    if (found := KEY.match(line)) is None:
        return None
    try:
        whole = orjson.loads(line)
    except ValueError:
        try:
            whole = json.loads(line)  # orjson rejects unpaired surrogates, which a model may write
        except ValueError:
            return None
    held = isinstance(whole, list) and len(whole) == 2 and isinstance(whole[1], dict)
    return bytes.fromhex(found[1].decode()) if held else None
