"""Training callbacks: progress bar, learning-curve writer that stops diverged runs, and step reporter."""

import math
import time
from pathlib import Path
from statistics import fmean, median
from typing import Any

from transformers import ProgressCallback, TrainerCallback

from ladder.data.jsonl import write_text
from ladder.pipeline import watcher
from ladder.pipeline.stage import UserError

TIMINGS = ("seconds", "tokens_per_second", "samples_per_second", "step_time")
"""Values of a step that differ from run to run. All other values are the same for the same inputs."""
VALIDATION = "validation_"
UNMEASURED = ("_runtime", "_per_second", "_num_tokens", "_preparation_time")
"""Suffixes of evaluation log entries that are not quality metrics."""
FIRST = 5
EXPLODED = 100


class Bar(ProgressCallback):
    """Transformers' progress bar with the loss in its postfix instead of one log line per step."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any) -> None:
        if state.is_world_process_zero and self.training_bar is not None and "loss" in (logs or {}):
            self.training_bar.set_postfix(loss=f"{float(logs['loss']):.4f}", refresh=False)

    def on_prediction_step(self, *_: Any, **__: Any) -> None:
        """Show no second bar for an evaluation."""
        return


class Curve(TrainerCallback):
    """Write the trainer's logs to a TSV file for `dvc plots`, and stop on non-finite or exploding values.

    The points are part of the trainer's log history, which checkpoints contain, so a resumed training continues its
    curve.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.points: list[dict[str, float]] = []
        self.started = self.before = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self.points = [_point(logs["step"], logs) for logs in state.log_history if "loss" in logs]
        for logs in state.log_history:
            if "eval_loss" in logs:
                self._add_validation(logs["step"], logs)
        self.before = self.points[-1]["seconds"] if self.points else 0.0
        self.started = time.monotonic()
        self.batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any) -> None:
        if "eval_loss" in logs:
            if not math.isfinite(logs["eval_loss"]):
                raise UserError(
                    f"step {state.global_step}: expected a finite validation loss, got {logs['eval_loss']}. "
                    "Lower trainer.learning_rate."
                )
            self._add_validation(state.global_step, logs)
            if state.is_world_process_zero:
                self._write()
        if "loss" not in logs:
            return
        for name in ("loss", "grad_norm"):
            if not math.isfinite(logs.get(name, 0.0)):
                raise UserError(
                    f"step {state.global_step}: expected a finite {name}, got {logs[name]}. "
                    "Lower trainer.learning_rate."
                )
        point = _point(state.global_step, {**logs, "seconds": self.seconds})
        point |= self._rate(point, self.points)
        state.log_history[-1].update({name: point[name] for name in TIMINGS if name in point})
        self.points.append(point)
        check_explosion(self.points)
        if state.is_world_process_zero:
            self._write()

    def _add_validation(self, step: int, logs: dict[str, Any]) -> None:
        """Add the metrics of an evaluation to the point of its step, as `validation_loss` and so on."""
        point = next(point for point in reversed(self.points) if point["step"] == step)
        for name in sorted(logs):
            if name.startswith("eval_") and not name.endswith(UNMEASURED) and logs[name] is not None:
                point[VALIDATION + name.removeprefix("eval_")] = float(logs[name])

    def validation(self) -> dict[str, float]:
        """Last validation loss; empty without validation."""
        name = f"{VALIDATION}loss"
        measured = [point[name] for point in self.points if name in point]
        return {name: round(measured[-1], 4)} if measured else {}

    def _rate(self, point: dict[str, float], points: list[dict[str, float]]) -> dict[str, float]:
        """Throughput between `point` and the last of `points`: tokens per second, else samples per second.

        If the trainer logs num_tokens (as with rollouts), only points with num_tokens count.
        """
        counted = "num_tokens" in point
        since = next((past for past in reversed(points) if not counted or "num_tokens" in past), {})
        elapsed = max(point["seconds"] - since.get("seconds", 0.0), 1e-9)
        if counted:
            return {"tokens_per_second": (point["num_tokens"] - since.get("num_tokens", 0.0)) / elapsed}
        if any("num_tokens" in past for past in points):
            return {}
        return {"samples_per_second": (point["step"] - since.get("step", 0.0)) * self.batch / elapsed}

    @property
    def seconds(self) -> float:
        """Training time in seconds, including the time before a resume."""
        return self.before + time.monotonic() - self.started

    def ending(self, name: str) -> float:
        """Mean of the values logged under `name` over the last quarter of the steps."""
        values = [point[name] for point in self.points if name in point]
        return round(fmean(values[-max(1, len(values) // 4) :]), 4)

    def rate(self) -> dict[str, float]:
        """Mean tokens_per_second of the whole training; samples_per_second if the trainer logs no num_tokens."""
        last = next((point for point in reversed(self.points) if "num_tokens" in point), self.points[-1])
        return {name: round(value, 1) for name, value in self._rate(last, []).items()}

    def _write(self) -> None:
        """Write the curve without timings: git keeps it, and equal trainings have equal bytes."""
        columns = [name for name in self.points[0] if name not in TIMINGS]
        columns += sorted({name for point in self.points for name in point if name.startswith(VALIDATION)} - {*columns})
        lines = ["\t".join(columns)]
        lines += ["\t".join(f"{point.get(name, math.nan):.6g}" for name in columns) for point in self.points]
        write_text(self.path, "\n".join(lines) + "\n", durable=False)  # the next step rewrites the file


def _point(step: int, logs: dict[str, Any]) -> dict[str, float]:
    """Point of the curve: the step, then the other values in the order of their names."""
    names = sorted(logs.keys() - {"step"})
    # TRL logs None for a reward that had no value for any answer
    return {"step": step, **{name: math.nan if logs[name] is None else float(logs[name]) for name in names}}


def check_explosion(points: list[dict[str, float]]) -> None:
    """Stop a training whose loss or gradient norm explodes.

    The limit is 100 times the initial value, exceeded at five logged steps in a row. The initial loss is that of the
    first step, before any update. The initial gradient norm, which varies more, is the median of the first five.
    Initial values below 1 count as 1, so a loss that starts at 0 may grow.

    Errors: UserError with the step and the value.
    """
    for name, first in (("loss", 1), ("grad_norm", FIRST)):
        values = [point[name] for point in points if name in point]
        began = max(1.0, median(values[:first])) if values else 1.0
        if len(values) >= 2 * FIRST and min(values[-FIRST:]) > EXPLODED * began:
            raise UserError(
                f"step {points[-1]['step']:.0f}: {name} is {values[-1]:.4g}, over {EXPLODED} times its first value "
                f"{began:.4g}, for {FIRST} steps. Lower trainer.learning_rate or raise trainer.warmup_steps."
            )


class Progress(TrainerCallback):
    """Report each step to the process that watches the stage, because a killed stage cannot report its last step."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        watcher.report(f"step {state.global_step} of {state.max_steps}")

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        watcher.report(f"step {state.global_step} of {state.max_steps}")
