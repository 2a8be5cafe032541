"""The state of a decoding that is not done, on disk: one that was killed goes on with its next step.

All of the state, the cache of keys and values with it: in bfloat16 the logits of a row depend on the rows beside it,
so an answer begun anew in other company would be another answer. Gone on with, the tokens are those of an unbroken run.
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
"""Numbers and lists of them by name, and tensors by name."""
SHARE = 0.05
"""Of the time, what saving may take: a state of 1 GB is saved every 40 seconds, a smaller one more often."""
WRITER = "inline_container"
"""The part of torch that writes, in whose errors it stands."""
BYTES_A_SECOND = 5e8
"""How fast a state is written, until the first one tells."""


class Snapshot:
    """The file of one decoding's state. `decode` reads it once, writes it now and then, and leaves it to its caller to
    `drop` it when the answers are kept. One process at a time may use it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fresh, self.missed = True, False
        self.saved, self.rate = time.monotonic(), BYTES_A_SECOND

    def read(self, device: torch.device) -> State | None:
        """The state that a killed process left; None where there is none, and from the second call on: who asks again
        is further. A torn file is told."""
        fresh, self.fresh = self.fresh, False
        if not fresh or not self.path.exists():
            return None
        try:
            facts, tensors = torch.load(self.path, device, weights_only=True)
        except torch.OutOfMemoryError:
            raise
        except (EOFError, RuntimeError, TypeError, ValueError, pickle.UnpicklingError):
            print(f"{self.path}: torn, its answers are begun anew", file=sys.stderr, flush=True)
            return None
        return facts, tensors

    def keep(self, state: Callable[[], State], size: int) -> None:
        """Write the state, of about `size` bytes, where the time since the last one is worth it. A disk that does not
        take it is told: the answers do not need it."""
        if time.monotonic() - self.saved < size / self.rate / SHARE:
            return
        begun = time.monotonic()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self.path.parent).free < 2 * size:
            self._miss(f"no room for {size} bytes")
            return
        try:
            with replacing(self.path) as temporary:
                torch.save(state(), temporary)  # tensor by tensor: a second copy of all of them may not fit
        except (OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and WRITER not in str(error):
                raise
            self._miss("cannot be written (a full disk, or a quota)")
            return
        self.saved, self.missed = time.monotonic(), False
        self.rate = max(1, size) / max(1e-4, self.saved - begun)

    def _miss(self, cause: str) -> None:
        if not self.missed:  # told once
            print(f"{self.path}: {cause}, so a kill costs what is answered from now on", file=sys.stderr, flush=True)
        self.saved, self.missed = time.monotonic(), True

    def drop(self) -> None:
        """Forget the state."""
        clean(self.path)
        self.path.unlink(missing_ok=True)


def flat(answers: list[list[int]]) -> dict[str, Tensor]:
    """Lists of tokens as two tensors: all tokens, and each list's length."""
    return {
        "answers": torch.tensor([token for answer in answers for token in answer], dtype=torch.int32),
        "lengths": torch.tensor([len(answer) for answer in answers], dtype=torch.int32),
    }


def ragged(tensors: dict[str, Tensor]) -> list[list[int]]:
    """The lists that `flat` was given."""
    tokens = tensors["answers"].tolist()
    return [tokens[start:end] for start, end in pairwise(accumulate(tensors["lengths"].tolist(), initial=0))]
