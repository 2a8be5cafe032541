"""Engine of a rung with a resumable cache: answers are stored while they are generated.

A killed run resumes, and existing answers are not generated again. They are in the store of generated and purchased
text (ladder.inference.request_cache), in one file per fingerprint. The fingerprint covers everything that determines an
answer except the conversations: rung, engine, sampling, our code, the libraries and the device. The file has one line
per portion of conversations, and beside it is the snapshot of the unfinished portion (ladder.inference.snapshot).

An answer depends on its position, which seeds its draws, and in bfloat16 on the other answers of its batch. So a
portion is keyed by its position and the text of all its conversations. Added or changed conversations invalidate their
portion, and no earlier one. To clear the cache, delete the file.
"""

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import cache, cached_property
from pathlib import Path

from ladder.chat.rendering import Messages
from ladder.data.jsonl import Row
from ladder.inference.code_hash import code_hash, versions
from ladder.inference.local import TokenEngine, engine_of
from ladder.inference.request_cache import Replies, store_of
from ladder.inference.snapshot import Snapshot
from ladder.inference.types import Answer, EngineName, Sampling, Where, place
from ladder.models.checkpoint import Rung, device_name, load, read_rung
from ladder.pipeline.stage import UserError

PORTION = 8192
"""Conversations decoded together: so many that the end of a portion, when slots are not refilled, costs little."""
LIBRARIES = ("bitsandbytes", "peft", "tokenizers", "torch", "transformers")


class RungEngine:
    """Engine of a rung; it is loaded at the first portion that is not cached."""

    def __init__(self, directory: Path, base: Path, engine: EngineName = "auto") -> None:
        self.directory, self.base, self.engine = directory, base, engine
        self.rung: Rung = read_rung(directory)

    @cached_property
    def source(self) -> TokenEngine:
        """The engine without the cache. Errors: UserError for a rung that it cannot load."""
        if self.engine == "endpoint":
            raise UserError(f"{self.directory}: engine: endpoint asks a server, not a rung")
        if self.engine == "vllm":
            from ladder.inference import vllm_engine

            return vllm_engine.load(self.directory, self.base)
        return engine_of(load(self.directory, self.base), self.engine)

    def generate(
        self, prompts: Sequence[Messages], sampling: Sampling, *, progress: str = "", where: Where = place
    ) -> Iterator[Answer]:
        """Answer each conversation, and return an iterator over the answers in the order given.

        All answers are generated into the cache before it returns; the iterator holds one portion in memory. `where`
        maps a conversation's index to its file and row, for error messages.
        """
        store = store_of(self.rung.rung, fingerprint=self.fingerprint(sampling))
        keys = []
        for first in range(0, len(prompts), PORTION):
            portion = list(prompts[first : first + PORTION])
            part = f", {first + 1} to {first + len(portion)} of {len(prompts)}"
            label = progress and progress + (part if len(prompts) > PORTION else "")
            keys.append(content_key(first, portion))
            self._make(store, keys[-1], portion, sampling, first, label, where)
        return (said for key in keys for said in _read(store[key]))

    def _make(
        self,
        store: Replies,
        key: str,
        portion: list[Messages],
        sampling: Sampling,
        first: int,
        label: str,
        where: Where,
    ) -> None:
        """Generate the answers of a portion into the store, unless they are there."""
        snapshot = Snapshot(store.path.with_suffix(f".{key[:16]}.state"))
        with store.alone(key[:16], report=bool(label)):
            if key in store:
                if label:
                    print(f"{label}: {len(portion)} answers from cache", file=sys.stderr, flush=True)
            else:
                made = self.source.generate(
                    portion, sampling, first=first, snapshot=snapshot, progress=label, where=where
                )
                store.add(key, {"answers": list(map(_row, made))})
            snapshot.drop()

    def fingerprint(self, sampling: Sampling) -> str:
        """16 hex digits of the sha256 of everything that determines an answer except the conversations."""
        facts = {
            "rung": self.rung.identity,  # includes the identity of its base
            "engine": "decoder" if self.engine == "auto" else self.engine,
            "sampling": asdict(sampling),
            "code": code(self.engine),
            "libraries": libraries(self.engine),
            "device": device_name(),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def libraries(engine: EngineName) -> dict[str, str]:
    """Versions of the libraries that determine a rung's answers, by name."""
    return versions((*LIBRARIES, "vllm") if engine == "vllm" else LIBRARIES)


def content_key(first: int, portion: list[Messages]) -> str:
    """sha256 of a portion, in hex: its position and its conversations."""
    digest = hashlib.sha256(f"{first}".encode())
    for messages in portion:
        digest.update(json.dumps(messages, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def _row(answer: Answer) -> Row:
    return {name: value for name, value in asdict(answer).items() if (name, value) != ("reasoning", "")}


def _read(portion: Row) -> Iterable[Answer]:
    return (Answer(**row) for row in portion["answers"])


@cache
def code(engine: EngineName) -> str:
    """sha256 of our source files that determine an engine's answers, and of this one."""
    return code_hash(engine, ["inference/answer_cache.py"])
