"""Resumable generation cache: answers of a rung are stored while they are generated.

A killed run resumes, and existing answers are not generated again. Files are in ${LADDER_WORK}/samples/<fingerprint>/.
The fingerprint covers everything that determines an answer except the conversations: rung, sampling, our code, the
libraries and the device. The folder has one file per portion of conversations, written atomically, and the snapshot of
the unfinished portion (ladder.inference.snapshot).

An answer depends on its position, which seeds its draws, and in bfloat16 on the other answers of its batch. So a
portion is keyed by its position and the text of all its conversations. Added or changed conversations invalidate their
portion, and no earlier one. To clear the cache, delete the folder.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cache, cached_property
from pathlib import Path

import torch

from ladder.chat.encode import Messages
from ladder.data.atomic_write import clean
from ladder.data.jsonl import Row, read_rows, write_rows
from ladder.inference.local import Answer, answer, place
from ladder.inference.sampling import Sampling
from ladder.inference.snapshot import Snapshot
from ladder.models.checkpoint import Model, Rung, device, load, read_rung
from ladder.pipeline import launch
from ladder.pipeline.code_text import essence
from ladder.pipeline.imports import imported, read_imports
from ladder.pipeline.stage import UserError

PORTION = 8192
"""Conversations decoded together: so many that the end of a portion, when slots are not refilled, costs little."""
LIBRARIES = ("bitsandbytes", "peft", "tokenizers", "torch", "transformers")
HERE = Path(__file__).resolve()


class Speaker:
    """A rung that answers conversations through the cache; it is loaded at the first portion that is not cached."""

    def __init__(self, directory: Path, base: Path) -> None:
        self.directory, self.base = directory, base
        self.rung: Rung = read_rung(directory)

    @cached_property
    def model(self) -> Model:
        return load(self.directory, self.base)

    def answers(
        self,
        conversations: list[Messages],
        sampling: Sampling,
        *,
        progress: str,
        where: Callable[[int], str] = place,
    ) -> Iterator[Answer]:
        """Answer each conversation, and return an iterator over the answers in the order given.

        All answers are generated into the cache before it returns; the iterator holds one portion in memory. `where`
        maps a conversation's index to its file and row, for error messages.
        """
        folder = launch.cache() / "samples" / self.fingerprint(sampling)
        paths = []
        for first in range(0, len(conversations), PORTION):
            portion = conversations[first : first + PORTION]
            place = f", {first + 1} to {first + len(portion)} of {len(conversations)}"
            called = progress and progress + (place if len(conversations) > PORTION else "")
            paths.append(folder / f"{content_key(first, portion)}.jsonl")
            self._make(paths[-1], portion, sampling, first, called, where)
        return (said for path in paths for said in _read(path))

    def _make(
        self,
        path: Path,
        portion: list[Messages],
        sampling: Sampling,
        first: int,
        called: str,
        where: Callable[[int], str],
    ) -> None:
        """Generate the answers of a portion into `path`, unless the file is already complete."""
        snapshot = Snapshot(path.with_suffix(".state"))
        with alone(path, called):
            clean(path)
            if _whole(path, len(portion)):
                if called:
                    print(f"{called}: {len(portion)} answers from cache", file=sys.stderr, flush=True)
            else:
                made = answer(
                    self.model, portion, sampling, first=first, snapshot=snapshot, progress=called, where=where
                )
                write_rows(path, map(_kept, made))
            snapshot.drop()

    def fingerprint(self, sampling: Sampling) -> str:
        """16 hex digits of the sha256 of everything that determines an answer except the conversations."""
        facts = {
            "rung": self.rung.identity,  # includes the identity of its base
            "sampling": asdict(sampling),
            "code": code(),
            "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
            "device": torch.cuda.get_device_name() if device().type == "cuda" else "cpu",
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def content_key(first: int, portion: list[Messages]) -> str:
    """16 hex digits of the sha256 of a portion: its position and its conversations."""
    digest = hashlib.sha256(f"{first}".encode())
    for messages in portion:
        digest.update(json.dumps(messages, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()[:16]


def _kept(answer: Answer) -> Row:
    return {name: value for name, value in asdict(answer).items() if (name, value) != ("reasoning", "")}


def _whole(path: Path, count: int) -> bool:
    """Whether the answers of a portion of `count` conversations are complete. A torn file is reported on stderr."""
    if not path.exists():
        return False
    with contextlib.suppress(UserError, TypeError):
        if len(_read(path)) == count:
            return True
    print(f"{path}: incomplete; its answers are generated again", file=sys.stderr, flush=True)
    return False


def _read(path: Path) -> list[Answer]:
    return [Answer(**row) for row in read_rows(path)]


@contextlib.contextmanager
def alone(path: Path, called: str) -> Iterator[None]:
    """Lock a portion against other processes, which would generate the same answers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if called:
                print(f"{called}: another process generates these answers; waiting for it", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@cache
def code() -> str:
    """sha256 of our source files that determine an answer: this one and its imports."""
    digest = hashlib.sha256()
    for path in sorted(imported(HERE, read_imports([HERE.parents[1]]))):
        digest.update(path.name.encode() + essence(path))
    return digest.hexdigest()
