"""Best-checkpoint callback: keep the trained weights with the best validation metric so far.

Only trainable weights are saved, in one file beside the checkpoints in the work folder. A resumed training repeats its
evaluations with the same results, so the file has the same content as in an uninterrupted training.
"""

import math
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from transformers import Trainer, TrainerCallback

from ladder.data.atomic_write import replacing
from ladder.pipeline.launch import rank
from ladder.training.checkpointing import BEST


class Best(TrainerCallback):
    """Save the weights whenever `metric` improves; `restore` loads them into the model."""

    def __init__(self, trainer: Trainer, folder: Path, metric: str, greater: bool) -> None:
        self.trainer, self.path = trainer, folder / BEST
        self.metric, self.greater = f"eval_{metric.removeprefix('eval_')}", greater

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.global_step == 0 and rank() == 0:
            self.path.unlink(missing_ok=True)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **rest: Any) -> None:
        value = float(metrics[self.metric])
        if rank() or math.isnan(value):
            return
        kept = self._kept()
        if kept and not (value > kept["value"] if self.greater else value < kept["value"]):
            return
        model: Any = self.trainer.accelerator.unwrap_model(self.trainer.model)
        weights = {
            name: weight.detach().cpu().contiguous()
            for name, weight in model.named_parameters()
            if weight.requires_grad
        }
        facts = {"step": state.global_step, "value": value, "loss": float(metrics["eval_loss"])}
        with replacing(self.path) as temporary:
            save_file(weights, temporary, {name: repr(fact) for name, fact in facts.items()})

    def _kept(self) -> dict[str, float]:
        if not self.path.is_file():
            return {}
        with safe_open(self.path, "pt") as stored:
            return {name: float(fact) for name, fact in (stored.metadata() or {}).items()}

    def restore(self, model: Any) -> dict[str, float]:
        """Load the best weights into the model, delete the file, and return the step and validation loss."""
        kept = self._kept()
        own = dict(model.named_parameters())
        with safe_open(self.path, "pt") as stored:
            for name in stored.keys():  # noqa: SIM118 (a file, not a mapping)
                if name in own:
                    own[name].data.copy_(stored.get_tensor(name))
        self.path.unlink()
        return {"best_step": int(kept["step"]), "validation_loss": round(kept["loss"], 4)}


class LastStep(TrainerCallback):
    """Also evaluate at the last training step, whatever eval_strategy is."""

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.global_step >= state.max_steps and args.eval_strategy != "epoch":
            control.should_evaluate = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.global_step >= state.max_steps and args.eval_strategy == "epoch":
            control.should_evaluate = True
