"""What every training stage shares: arguments passed through to their owners, the adapter, curves, the ledger."""

import dataclasses
import math
import tempfile
import time
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, TypeVar

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from pydantic import TypeAdapter, ValidationError
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback, set_seed

from ladder.models import Model, Rung, ledger, load, load_complete, read_rung, save_rung
from ladder.rows import write_text
from ladder.run import Refused

C = TypeVar("C")
Adapter = dict[str, Any] | Literal["continue"] | None


def passes(owner: type) -> Callable[[Any], dict[str, Any]]:
    """A pydantic validator: the keys and types of `owner`, a dataclass that another library defines and documents."""

    def check(values: Any) -> dict[str, Any]:
        if not isinstance(values, dict):
            raise ValueError(f"expected arguments of {owner.__name__}")
        fields = {field.name for field in dataclasses.fields(owner)}
        types = typing.get_type_hints(owner)
        for name, value in values.items():
            if name not in fields:
                raise ValueError(f"{owner.__name__} has no argument {name!r}")
            try:
                TypeAdapter(types[name]).validate_python(value)
            except ValidationError as error:
                raise ValueError(f"{name}: {error.errors()[0]['msg']}, got {value!r}") from None
        return values

    return check


def adapter_check(value: Any) -> Adapter:
    """A pydantic validator of `lora`: LoraConfig's arguments, `continue` (the parent's adapter), null (all weights)."""
    if value is None or value == "continue":
        return value
    return passes(LoraConfig)(value)


def build(owner: type[C], arguments: dict[str, Any], **fixed: Any) -> C:
    """Build another library's configuration; what it refuses is told as the user's mistake."""
    try:
        return owner(**{**arguments, **fixed})
    except (ValueError, TypeError) as error:
        raise Refused(f"{owner.__name__}: {error}") from None


@dataclasses.dataclass(frozen=True)
class Climb:
    """A rung in training: the model, and what it stands on."""

    start: Model
    parent: Rung
    base: Rung | None
    """The complete model that the result's adapter stands on; None when the result will be complete."""

    @property
    def trainable_parameters(self) -> int:
        """How many weights take gradients."""
        return sum(weight.numel() for weight in self.start.model.parameters() if weight.requires_grad)


def climb(parent: Path, base: Path, lora: Adapter, *, seed: int) -> Climb:
    """Load the parent and make trainable what `lora` says.

    A dict puts a new adapter on the parent, `continue` goes on with the parent's own, None trains all weights
    (in float32; under bf16 autocast). An adapter in this house stands on `base` alone: one that is put on any
    other parent is added to the weights when it is saved, and the rung is complete.
    """
    rung, ground = read_rung(parent), read_rung(base)
    set_seed(seed)
    if lora == "continue":
        if rung.kind != "adapter":
            raise Refused(f"lora: continue, but the parent {rung.rung} is complete; give lora: {{r: 16}} or null")
        return Climb(load(parent, base, trainable=True), rung, ground)
    if lora is None:
        whole = load_complete(parent, base, dtype=torch.float32)
        whole.model.requires_grad_(True)
        return Climb(whole, rung, None)
    whole = load_complete(parent, base)
    config = build(LoraConfig, {"target_modules": "all-linear", **lora}, task_type="CAUSAL_LM")
    adapted = Model(get_peft_model(whole.model, config), whole.tokenizer, rung)
    return Climb(adapted, rung, ground if rung.identity == ground.identity else None)


class Bar(ProgressCallback):
    """Transformers' progress bar with the loss beside the rate and the time left, instead of a line a step."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any) -> None:
        if state.is_world_process_zero and self.training_bar is not None and "loss" in (logs or {}):
            self.training_bar.set_postfix(loss=f"{float(logs['loss']):.4f}", refresh=False)


class Curve(TrainerCallback):
    """Write what the trainer logs to a TSV that `dvc plots` draws, and stop when it is no longer a number."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.points: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any) -> None:
        if "loss" not in logs:
            return
        for name in ("loss", "grad_norm"):
            if not math.isfinite(logs.get(name, 0.0)):
                raise Refused(f"step {state.global_step}: {name} is {logs[name]}; lower trainer.learning_rate")
        if state.is_world_process_zero:
            self.points.append({"step": state.global_step, **{key: float(logs[key]) for key in sorted(logs)}})
            self._write()

    def ending(self, name: str) -> float:
        """Mean of what was logged under `name` over the last quarter of the steps."""
        values = [point[name] for point in self.points if name in point]
        return round(fmean(values[-max(1, len(values) // 4) :]), 4)

    def _write(self) -> None:
        columns = list(self.points[0])
        lines = ["\t".join(columns)]
        lines += ["\t".join(f"{point.get(name, math.nan):.6g}" for name in columns) for point in self.points]
        write_text(self.path, "\n".join(lines) + "\n")


@contextmanager
def trainer_arguments(arguments: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """TrainingArguments that are ours to set, around those of params.yaml; no file outlives the training."""
    with tempfile.TemporaryDirectory(prefix="ladder-") as folder:
        yield {
            "logging_steps": 1,
            "gradient_checkpointing": False,
            **arguments,
            "output_dir": folder,
            "report_to": "none",
            "save_strategy": "no",
            "logging_nan_inf_filter": False,
            "use_cpu": not torch.cuda.is_available(),
            "dataloader_pin_memory": torch.cuda.is_available(),
            "remove_unused_columns": False,
        }


def fit_and_save(
    trainer: Trainer,
    climbed: Climb,
    *,
    rung: str,
    method: str,
    settings: dict[str, Any],
    parents: dict[str, Rung],
    output: Path,
    metrics: Path,
    curve: Path,
    measured: dict[str, float],
    endings: dict[str, str],
) -> None:
    """Train, save the rung, and write its ledger: what it cost and how it ended.

    `endings` names, for each metric, what the trainer logs of it.
    """
    watch = Curve(curve)
    trainer.add_callback(watch)
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Bar)
    trainable = climbed.trainable_parameters
    started = time.monotonic()
    trainer.train()
    seconds = time.monotonic() - started
    model = trainer.accelerator.unwrap_model(trainer.model)
    if isinstance(model, PeftModel) and climbed.base is None:
        model = model.merge_and_unload()
    if climbed.base is None:
        model = model.to(torch.bfloat16)
    made = save_rung(
        output,
        model,
        climbed.start.tokenizer,
        rung=rung,
        method=method,
        parents=parents,
        base=climbed.base,
        trainable_parameters=trainable,
        settings=settings,
    )
    ends = {metric: watch.ending(name) for metric, name in endings.items()}
    ledger(metrics, made, seconds, {**ends, **measured})
