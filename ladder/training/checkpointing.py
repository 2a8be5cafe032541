"""Checkpoints of unfinished trainings in work folders, so that a killed training resumes.

The folder ${LADDER_WORK}/<rung>-<fingerprint>/ is outside the repository, because DVC removes a stage's outputs before
it runs the stage. It is deleted once the rung is published. The fingerprint covers everything that decides the result,
so no training resumes from a different recipe. Checkpoints are saved by wall time, every LADDER_SAVE_SECONDS seconds
(default 300; 0 saves at every step). Saving does not affect results: a killed and resumed training ends in the same
weights as an uninterrupted one.
"""

import hashlib
import importlib.metadata
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow
import torch
from accelerate.data_loader import get_sampler
from accelerate.utils import broadcast
from datasets import Dataset
from transformers import Trainer, TrainerCallback
from trl.trainer.utils import RepeatSampler

from ladder.data.atomic_write import clean, sync, sync_folder
from ladder.data.jsonl import write_json
from ladder.data.strict_json import parse_json
from ladder.pipeline.code_text import essence
from ladder.pipeline.launch import rank, world_size
from ladder.pipeline.output_locks import alone
from ladder.pipeline.stage import UserError

MARKER = "whole.json"
"""File names and sizes of a checkpoint, written last. A checkpoint without this file was interrupted while saving."""
BEST = "best.safetensors"
"""The best weights so far (ladder/training/best_checkpoint.py), beside the checkpoints."""
REPOSITORY = Path(__file__).resolve().parents[2]
LIBRARIES = ("accelerate", "peft", "torch", "transformers", "trl")

# accelerate numbers CPU processes as devices, and torch cannot load a checkpoint onto `cpu:1`.
torch.serialization.register_package(
    30, lambda storage: None, lambda storage, location: storage if location.startswith("cpu:") else None
)


def fingerprint(rows: Any, **recipe: Any) -> str:
    """Recipe fingerprint: 16 hex digits of sha256.

    The hash covers the rows, the recipe, the imported code of this repository, library versions, the number of ranks,
    and whether FSDP is used.
    """
    digest = hashlib.sha256()
    facts = {
        **{name: importlib.metadata.version(name) for name in LIBRARIES},
        "ranks": world_size(),
        "sharded": os.environ.get("ACCELERATE_USE_FSDP", "false"),
        "recipe": recipe,
    }
    digest.update(json.dumps(facts, sort_keys=True).encode())
    for path in sorted(_own_code()):
        digest.update(essence(path))
    for part in _row_bytes(rows):
        digest.update(part)
    return digest.hexdigest()[:16]


def _own_code() -> set[Path]:
    """Files under ladder/ and stages/ that this process has imported."""
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    ours = {REPOSITORY / "ladder", REPOSITORY / "stages"}
    return {path for file in files if file and not ours.isdisjoint((path := Path(file).resolve()).parents)}


def _row_bytes(rows: Any) -> Iterator[bytes]:
    if isinstance(rows, Dataset):
        for table in rows.with_format("arrow").iter(batch_size=1000):
            sink = pyarrow.BufferOutputStream()
            with pyarrow.ipc.new_stream(sink, table.schema.remove_metadata()) as stream:
                stream.write_table(table.replace_schema_metadata(None))
            yield sink.getvalue().to_pybytes()
        return
    for row in rows:
        for name, value in sorted(row.items()):
            yield name.encode()
            if isinstance(value, torch.Tensor):
                yield f"{value.dtype}{list(value.shape)}".encode()
                yield value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            else:
                yield json.dumps(value).encode()


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Lock the work folder for this process, and delete it at the end if it has no checkpoints.

    Errors: UserError naming the process that holds the lock.
    """
    with alone(folder / "lock", f"{folder}", "is training this rung"):
        clean(folder / BEST)
        try:
            yield
        finally:
            if not _checkpoints(folder):
                shutil.rmtree(folder, ignore_errors=True)


def drop(folder: Path) -> None:
    """Delete the checkpoints, once the rung is published or the training is rejected."""
    for checkpoint in _checkpoints(folder):
        shutil.rmtree(checkpoint)


def newest(folder: Path) -> Path | None:
    """Last complete checkpoint; None if there is none. Incomplete ones are reported and deleted."""
    for checkpoint in reversed(_checkpoints(folder)):
        torn = damage(checkpoint)
        if torn is None:
            return checkpoint
        print(f"{checkpoint}: {torn}; not used", flush=True)
        shutil.rmtree(checkpoint)
    return None


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rsplit("-", 1)[1]))


def mark(checkpoint: Path) -> None:
    """Mark a checkpoint as complete, once all its bytes are on disk."""
    sync_folder(checkpoint)
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    write_json(checkpoint / MARKER, {str(path.relative_to(checkpoint)): path.stat().st_size for path in files})
    sync(checkpoint.parent)


def damage(checkpoint: Path) -> str | None:
    """Describe what makes a checkpoint incomplete; None if it is complete."""
    try:
        sizes = parse_json((checkpoint / MARKER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "incomplete: its process ended while saving it"
    except ValueError:
        return f"incomplete: {MARKER} is truncated"
    for name, size in sizes.items():
        path = checkpoint / name
        if not path.is_file():
            return f"incomplete: {name} is missing"
        if path.stat().st_size != size:
            return f"incomplete: {name} has {path.stat().st_size} of {size} bytes"
    return None


def save_seconds() -> float:
    """Value of LADDER_SAVE_SECONDS. Errors: UserError when it is not a number."""
    text = os.environ.get("LADDER_SAVE_SECONDS", "300")
    try:
        return float(text)
    except ValueError:
        raise UserError(f"LADDER_SAVE_SECONDS: expected seconds between two checkpoints, got {text!r}") from None


class Keeper(TrainerCallback):
    """Save a checkpoint when `seconds` have passed, at the next logged step that is a multiple of `every`.

    Unlogged steps are excluded, because their running sums are in memory and in no checkpoint. The newest two
    checkpoints are kept.
    """

    def __init__(self, trainer: Trainer, folder: Path, *, every: int, seconds: float) -> None:
        self.trainer = trainer
        self.folder = folder
        self.every = every
        self.seconds = seconds
        self.saved = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **rest: Any) -> None:
        self.saved = time.monotonic()
        if state.global_step == 0:
            return
        if rank() == 0:
            print(f"resuming at step {state.global_step} of {state.max_steps}", flush=True)
        if hasattr(self.trainer, "_total_train_tokens"):  # TRL counts tokens from 0 in every process
            self.trainer._total_train_tokens = int(state.log_history[-1].get("num_tokens", 0))
        sampler = get_sampler(train_dataloader)
        if isinstance(sampler, RepeatSampler):  # its generator is not in checkpoints and advances once per epoch
            for _ in range(int(state.epoch)):
                next(iter(sampler))

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self._ask(state, control)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self._ask(state, control)

    def _ask(self, state: Any, control: Any) -> None:
        if not control.should_log or state.global_step % self.every or state.global_step >= state.max_steps:
            return
        due = torch.tensor(int(time.monotonic() - self.saved >= self.seconds), device=self.trainer.args.device)
        if broadcast(due).item():  # rank zero's clock decides
            control.should_save = True
            if rank() == 0:
                for old in _checkpoints(self.folder)[:-1]:  # before saving, so that the disk holds at most two
                    shutil.rmtree(old)

    def on_save(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self.trainer.accelerator.wait_for_everyone()
        if rank() == 0:
            mark(self.folder / f"checkpoint-{state.global_step}")
        self.saved = time.monotonic()
