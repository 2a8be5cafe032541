"""Checkpoints of an unfinished decoding, so that a killed process resumes at the next step.

The snapshot holds the full state, including the KV cache. In bfloat16 a row's logits depend on the other rows of its
batch, so an answer restarted in another batch could differ. A resumed decoding yields the same tokens as an
uninterrupted one.
"""

import pickle
import shutil
import sys
import time
from collections.abc import Callable
from itertools import accumulate, pairwise
from pathlib import Path

import torch
from torch import Tensor

from ladder.data.atomic_write import clean, replacing
from ladder.data.jsonl import Row

State = tuple[Row, dict[str, Tensor]]
"""Numbers and lists of numbers by name, and tensors by name."""
SHARE = 0.02
"""Maximum share of run time spent on saving: a state of 1 GB is saved every 100 s, a smaller one more often."""
WRITER = "inline_container"
"""torch's file writer; its name appears in the error messages of failed writes."""
BYTES_A_SECOND = 5e8
"""Assumed write speed in bytes/s until the first save has measured it."""


class Snapshot:
    """Snapshot file of one decoding. `decode` reads it once and writes it periodically; the caller must `drop` it once
    the answers are stored. Only one process at a time may use it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fresh, self.missed = True, False
        self.saved, self.rate = time.monotonic(), BYTES_A_SECOND

    def read(self, device: torch.device) -> State | None:
        """Load the state that a killed process left, or return None if there is none.

        Only the first call reads the file. Later calls return None, because the decoding is past that state.
        A torn file is reported on stderr and ignored.
        """
        fresh, self.fresh = self.fresh, False
        if not fresh or not self.path.exists():
            return None
        try:
            facts, tensors = torch.load(self.path, device, weights_only=True)
        except torch.OutOfMemoryError:
            raise
        except (EOFError, RuntimeError, TypeError, ValueError, pickle.UnpicklingError):
            print(f"{self.path}: incomplete; its answers start from the beginning", file=sys.stderr, flush=True)
            return None
        return facts, tensors

    def keep(self, state: Callable[[], State], size: int) -> None:
        """Write the state (about `size` bytes) if saving stays within `SHARE` of the time since the last save.

        If the disk does not accept it, a warning is printed; the decoding goes on without a snapshot.
        """
        if time.monotonic() - self.saved < size / self.rate / SHARE:
            return
        begun = time.monotonic()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self.path.parent).free < 2 * size:
            self._miss(f"no space for {size} bytes")
            return
        try:
            with replacing(self.path) as temporary:
                torch.save(state(), temporary)  # tensor by tensor: a second copy of the state may not fit
        except (OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and WRITER not in str(error):
                raise
            self._miss("cannot be written (a full disk, or a quota)")
            return
        self.saved, self.missed = time.monotonic(), False
        self.rate = max(1, size) / max(1e-4, self.saved - begun)

    def _miss(self, cause: str) -> None:
        if not self.missed:  # warn once per series of failures
            print(f"{self.path}: {cause}; a kill would lose answers from now on", file=sys.stderr, flush=True)
        self.saved, self.missed = time.monotonic(), True

    def drop(self) -> None:
        """Delete the snapshot."""
        clean(self.path)
        self.path.unlink(missing_ok=True)


def flat(answers: list[list[int]]) -> dict[str, Tensor]:
    """Pack lists of token ids into two int32 tensors: all tokens concatenated, and the length of each list."""
    return {
        "answers": torch.tensor([token for answer in answers for token in answer], dtype=torch.int32),
        "lengths": torch.tensor([len(answer) for answer in answers], dtype=torch.int32),
    }


def ragged(tensors: dict[str, Tensor]) -> list[list[int]]:
    """Unpack the lists of token ids that `flat` packed."""
    tokens = tensors["answers"].tolist()
    return [tokens[start:end] for start, end in pairwise(accumulate(tensors["lengths"].tolist(), initial=0))]
