"""Work folders: the checkpoints of a training that is not done, so that the next run goes on where this one ended.

${LADDER_WORK}/<rung>-<fingerprint>/ lies outside the repository (DVC removes a stage's outputs before it runs it) and
is dropped once the rung is published. The fingerprint is over everything that decides the result, so no run goes on
from what another recipe left. Saving is by wall time, LADDER_SAVE_SECONDS apart (300; 0 is every step), and changes
no number: a training that was killed ends in the same weights as one that was not.
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
from ladder.pipeline.code_text import essence
from ladder.pipeline.launch import rank, world_size
from ladder.pipeline.output_locks import alone
from ladder.pipeline.stage import UserError

MARKER = "whole.json"
"""Written last into a checkpoint: its files and their sizes. A checkpoint without it was torn while it was saved."""
BEST = "best.safetensors"
"""The best weights so far (ladder/training/best_checkpoint.py), beside the checkpoints."""
REPOSITORY = Path(__file__).resolve().parents[2]
LIBRARIES = ("accelerate", "peft", "torch", "transformers", "trl")

# accelerate numbers the processes of a CPU as its devices, and torch reads no checkpoint onto a `cpu:1`.
torch.serialization.register_package(
    30, lambda storage: None, lambda storage, location: storage if location.startswith("cpu:") else None
)


def fingerprint(rows: Any, **recipe: Any) -> str:
    """sha256, 16 digits of it, over the training rows, the recipe, our code, the libraries and the number of ranks."""
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
    """The files under ladder/ and stages/ that this process has imported."""
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
    """Hold the work folder for this process alone; keep it only while it has checkpoints.

    Errors: UserError naming the process that holds it.
    """
    with alone(folder / "lock", f"{folder}", "is training this rung"):
        clean(folder / BEST)
        try:
            yield
        finally:
            if not _checkpoints(folder):
                shutil.rmtree(folder, ignore_errors=True)


def drop(folder: Path) -> None:
    """Remove the checkpoints: the rung they led to is published."""
    for checkpoint in _checkpoints(folder):
        shutil.rmtree(checkpoint)


def newest(folder: Path) -> Path | None:
    """The last whole checkpoint. One that is torn is told, removed, and the one before is taken."""
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
    """Say that a checkpoint is whole, once all its bytes are on the disk."""
    sync_folder(checkpoint)
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    write_json(checkpoint / MARKER, {str(path.relative_to(checkpoint)): path.stat().st_size for path in files})
    sync(checkpoint.parent)


def damage(checkpoint: Path) -> str | None:
    """What a checkpoint lacks, in words; None when it is whole."""
    try:
        sizes = json.loads((checkpoint / MARKER).read_bytes())
    except FileNotFoundError:
        return "torn, it was being saved when its process ended"
    except ValueError:
        return f"torn, {MARKER} is not whole"
    for name, size in sizes.items():
        path = checkpoint / name
        if not path.is_file():
            return f"torn, {name} is missing"
        if path.stat().st_size != size:
            return f"torn, {name} has {path.stat().st_size} bytes of {size}"
    return None


def save_seconds() -> float:
    """LADDER_SAVE_SECONDS. Errors: UserError when it is no number."""
    text = os.environ.get("LADDER_SAVE_SECONDS", "300")
    try:
        return float(text)
    except ValueError:
        raise UserError(f"LADDER_SAVE_SECONDS: expected seconds between two checkpoints, got {text!r}") from None


class Keeper(TrainerCallback):
    """Save a checkpoint when `seconds` have passed, at a logged step that is a multiple of `every`.

    A step that is not logged keeps sums in memory that no checkpoint holds. The newest two stay.
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
        if hasattr(self.trainer, "_total_train_tokens"):  # TRL counts what its curve shows from 0 in every process
            self.trainer._total_train_tokens = int(state.log_history[-1].get("num_tokens", 0))
        sampler = get_sampler(train_dataloader)
        if isinstance(sampler, RepeatSampler):  # its generator is not in a checkpoint, and moves on once an epoch
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
        if broadcast(due).item():  # rank zero's clock is everyone's
            control.should_save = True
            if rank() == 0:
                for old in _checkpoints(self.folder)[:-1]:  # before the new one is written: the disk holds two
                    shutil.rmtree(old)

    def on_save(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self.trainer.accelerator.wait_for_everyone()
        if rank() == 0:
            mark(self.folder / f"checkpoint-{state.global_step}")
        self.saved = time.monotonic()
