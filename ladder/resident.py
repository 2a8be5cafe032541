"""Resident memory of a training on a CPU: bounded, though glibc keeps what is freed.

A stage has glibc keep freed memory (ladder/heap.py): a third of a step would go into taking it from the kernel
again. But the buffers of a step are as long as its longest row, and a buffer that fits none of the free pieces is
allocated beside them: over steps of differing lengths the free pieces add up. So where resident memory has grown by
FACTOR since it was level, all free memory is returned to the kernel. No number of the training depends on it.
"""

from typing import Any

from transformers import TrainerCallback

from ladder import watching
from ladder.heap import give_back, resident

FACTOR = 1.25
SETTLED = 2
"""Steps after which memory is level: by then every kind of buffer has been taken."""
SMALLEST = 64 << 20
"""Bytes of growth that are worth the time of giving them back."""


class Resident(TrainerCallback):
    """Give free memory back where it grows from step to step; say to the watcher how far the training is."""

    def __init__(self) -> None:
        self.level, self.steps = 0, 0
        self.given_back = 0
        """How often."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        watching.tell(f"step {state.global_step} of {state.max_steps}")

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        watching.tell(f"step {state.global_step} of {state.max_steps}")
        self.look(resident())

    def look(self, held: int) -> None:
        """held: bytes that are resident at the end of a step."""
        self.steps += 1
        if self.steps <= SETTLED:
            self.level = max(self.level, held)
        elif held > max(FACTOR * self.level, self.level + SMALLEST):
            give_back()
            self.given_back += 1
            self.level, self.steps = 0, 0  # level again after SETTLED steps, whatever is needed by then
