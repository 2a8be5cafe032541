"""Micro-batches measured in tokens: one optimizer step's rows, split into parts that fit into memory.

The batch of an optimizer step is a number of rows, as params.yaml gives it: per_device_train_batch_size times
gradient_accumulation_steps. How many of these rows one forward pass takes is decided here, by tokens. The loss is
summed over the parts and divided by the learned tokens of the whole step, so up to rounding it does not depend on the
split. Rows lie end to end where the model's attention allows it (ladder/training/row_layout.py): no token is padding.
"""

import contextlib
import gc
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer

from ladder.data.jsonl import read_json, write_json
from ladder.models.oom import ran_out
from ladder.pipeline.launch import rank
from ladder.training.token_budget import measured_budget

Row = dict[str, Any]
Collate = Callable[[list[Row]], dict[str, Any]]
FILE = "micro_batch.json"


def one_batch(arguments: dict[str, Any]) -> dict[str, Any]:
    """Trainer arguments under which the data loader returns all rows of a process's optimizer step at once."""
    rows = arguments.get("per_device_train_batch_size", 8) * (arguments.get("gradient_accumulation_steps") or 1)
    return {**arguments, "per_device_train_batch_size": rows, "gradient_accumulation_steps": 1}


def with_liger(arguments: dict[str, Any]) -> dict[str, Any]:
    """Trainer arguments with liger's fused layers on a GPU where liger-kernel is installed, unless the user decides.

    They save memory and time at 8B; liger leaves model families that it does not know unchanged.
    """
    there = torch.cuda.is_available() and importlib.util.find_spec("liger_kernel") is not None
    return {"use_liger_kernel": True, **arguments} if there else arguments


def split_packed(lengths: list[int], budget: int, least: int = 1) -> list[list[int]]:
    """Split rows into the fewest balanced parts of at most `budget` tokens; a longer row is alone in its part.

    Longest row first, each into the part with the fewest tokens (Graham 1969); `least` is the minimum number of parts.
    Returns the rows' positions, in ascending order within a part. The same lengths give the same parts.
    """
    order = sorted(range(len(lengths)), key=lambda position: (-lengths[position], position))
    count = max(1, min(least, len(lengths)), -(-sum(lengths) // budget))
    while True:
        parts: list[list[int]] = [[] for _ in range(min(count, len(lengths)))]
        tokens = [0] * len(parts)
        for position in order:
            smallest = min(range(len(parts)), key=lambda part: (tokens[part], part))
            parts[smallest].append(position)
            tokens[smallest] += lengths[position]
        if len(parts) == len(lengths) or max(tokens) <= budget:
            return [sorted(part) for part in parts if part]
        count += 1


def split_padded(lengths: list[int], budget: int, least: int = 1) -> list[list[int]]:
    """Split rows into parts of similar length, each of at most `budget` tokens with its padding.

    `least` is the minimum number of parts. Returns the rows' positions, shortest rows first.
    """
    order = sorted(range(len(lengths)), key=lambda position: (lengths[position], position))
    most = -(-len(order) // max(1, min(least, len(order))))
    parts: list[list[int]] = [[]]
    for position in order:
        full = parts[-1] and (len(parts[-1]) + 1) * lengths[position] > budget
        if full or len(parts[-1]) == most:
            parts.append([])
        parts[-1].append(position)
    return parts


class MicroBatches(Trainer):
    """Trainer mixin: a step's rows are split by tokens, and by half as many when memory runs out.

    Set `packed` and `tokens` (or call `choose`) before training. Tokens of a padded layout include the padding.
    """

    packed: bool = False
    """Rows lie end to end; else they are padded to the longest of their part."""
    tokens: int | None = None
    """Tokens of a micro-batch; None puts all rows of a step into one."""
    collate: Collate
    """Collator that makes one micro-batch of rows."""
    wanted: int | None = None
    kept: Path | None = None

    def use(self, collate: Collate, *, packed: bool, tokens: int | None) -> None:
        """Keep the collator for micro-batches; the data loader hands the rows over as they are.

        `tokens` is the user's micro_batch_tokens, None to choose it (see `choose`).
        """
        self.collate, self.packed, self.wanted = collate, packed, tokens
        self.data_collator = hand_over

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Evaluation batches are made by the collator at once: per_device_eval_batch_size rows."""
        self.data_collator = self.collate
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.data_collator = hand_over

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        return super()._get_num_items_in_batch([_labels(batch["rows"].rows) for batch in batch_samples], device)

    def floating_point_ops(self, inputs: Any) -> int:
        """Not estimated: the trainer's estimate reads tensors of a batch. The curve has tokens per second."""
        return 0

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward passes of all parts of a step; returns the step's loss."""
        rows = inputs["rows"].rows
        while True:
            parts = self.parts([length(row) for row in rows])
            with self._restorable(model) as restore:
                try:
                    return self._accumulated(model, [[rows[i] for i in part] for part in parts], num_items_in_batch)
                except (torch.OutOfMemoryError, torch.AcceleratorError) as error:
                    if "out of memory" not in str(error) or self.args.world_size > 1 or len(parts) == len(rows):
                        raise
            # Outside the except block: during handling, the traceback keeps the tensors alive.
            restore()
            self.lower(max(sum(length(rows[i]) for i in part) for part in parts))

    def parts(self, lengths: list[int]) -> list[list[int]]:
        """Positions of the rows in each micro-batch. Every process makes the same number of parts."""
        split = split_packed if self.packed else split_padded
        budget = self.tokens or sum(lengths) * len(lengths)
        parts = split(lengths, budget)
        if self.args.world_size > 1:
            counts = self.accelerator.gather(torch.tensor([len(parts)], device=self.args.device))
            parts = split(lengths, budget, int(counts.max()))
        return parts

    def lower(self, used: int) -> None:
        """Halve the micro-batch after `used` tokens ran out of memory, and report it."""
        message = ran_out(self.args.device)
        gc.collect()
        torch.cuda.empty_cache()
        self.tokens = max(1, min(used, self.tokens or used) // 2)
        self._keep()
        print(
            f"micro_batch_tokens: {message} in a micro-batch of {used} tokens; continuing with {self.tokens}",
            flush=True,
        )

    def out_of_memory(self) -> str:
        """Error message for a step that no smaller micro-batch can save: one row, or several processes."""
        message = ran_out(self.args.device)
        if self.args.world_size > 1 and (self.tokens or 2) > 1:
            return f"{message} in a micro-batch of {self.tokens} tokens: set micro_batch_tokens to a smaller number"
        if not self.args.gradient_checkpointing:
            return f"{message} with one row: set trainer.gradient_checkpointing: true (slower, far less memory)"
        return f"{message} with one row: lower trainer.max_length, or train fewer weights (lora: {{r: 16}})"

    def choose(self, folder: Path) -> None:
        """Set the tokens of a micro-batch: the user's, those of the run to resume, or what fits into the GPU's memory.

        `folder` is the run's checkpoint folder. A resumed run keeps its micro-batch, so its results keep their bytes.
        """
        if self.wanted:
            self.tokens = self.wanted
            return
        self.kept = folder / FILE
        self.tokens = read_json(self.kept)["tokens"] if self.kept.is_file() else measured_budget(self)
        self._keep()

    def _keep(self) -> None:
        if self.kept is not None and rank() == 0:
            self.kept.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.kept, {"tokens": self.tokens})

    def rehearse(self, rows: list[Row]) -> None:
        """One forward and backward pass over the rows that leaves random state and collected values as they were."""
        with self._restorable(self.model) as restore, self.accelerator.autocast():
            items = torch.tensor(sum(map(learned, rows)), device=self.args.device)
            model: Any = self.model
            super().training_step(model, self.collate(rows), items)
        restore()

    def _accumulated(self, model: Any, parts: list[list[Row]], items: Any) -> Tensor:
        """Sum of the parts' losses; gradients are synchronized between processes in the last backward pass."""
        losses, weights = [], []
        before = {name: len(values) for name, values in self._logged().items()}
        self.current_gradient_accumulation_steps = len(parts)  # for losses that are not divided by `items`
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
                losses.append(super().training_step(model, self.collate(part), items))
            weights.append(int(sum(learned(row) for row in part)))
        self._average(before, weights)
        return torch.stack(losses).sum()

    def _logged(self) -> dict[str, list[float]]:
        """Values that TRL's trainers collect until the next log, one a forward pass."""
        metrics: Any = getattr(self, "_metrics", {})
        return metrics.get("train", {})

    def _average(self, before: dict[str, int], weights: list[int]) -> None:
        """Replace the values of a step's parts by their mean, weighted by learned tokens, as of one batch."""
        total = sum(weights)
        for name, values in self._logged().items():
            new = values[before.get(name, 0) :]
            if len(new) == len(weights) > 1 and total:
                mean = sum(value * weight for value, weight in zip(new, weights, strict=True)) / total
                values[before.get(name, 0) :] = [mean]

    @contextlib.contextmanager
    def _restorable(self, model: Any) -> Iterator[Callable[[], None]]:
        """Yield a function that puts the step back to its start: random state, gradients, collected values."""
        cpu = torch.get_rng_state()
        cuda = torch.cuda.get_rng_state() if self.args.device.type == "cuda" else None
        counts = {name: list(values) for name, values in self._logged().items()}
        seen = getattr(self, "_total_train_tokens", None)

        def restore() -> None:
            torch.set_rng_state(cpu)
            if cuda is not None:
                torch.cuda.set_rng_state(cuda)
            model.zero_grad(set_to_none=True)
            for name, values in self._logged().items():
                values[:] = counts.get(name, [])
            if seen is not None:
                self._total_train_tokens = seen

        yield restore


@dataclass(frozen=True)
class StepRows:
    """Rows of one step, as the dataset has them; an object of its own, which accelerate does not search for tensors."""

    rows: list[Row]


def hand_over(rows: list[Row]) -> dict[str, StepRows]:
    """Collator of the data loader: the rows of a step, not yet tensors."""
    return {"rows": StepRows(rows)}


def length(row: Row) -> int:
    """Number of tokens of a row."""
    return len(row["input_ids"])


def learned(row: Row) -> int:
    """Number of tokens of a row that the loss covers; the first token of a row is never predicted."""
    return sum(label != -100 for label in row["labels"][1:])


def _labels(rows: list[Row]) -> dict[str, Tensor]:
    """Labels of all rows in one line, for the trainer's count of learned tokens."""
    first = [-100]  # the trainer leaves the first position out
    parts = [label for row in rows for label in ([-100, *row["labels"][1:]])]
    return {"labels": torch.tensor([first + parts])}
