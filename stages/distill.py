"""Distillation from cached logits: a smaller student learns the teacher's distribution, not only its words.

L = alpha * CE + (1 - alpha) * T^2 * KL(teacher_T || student_T)      (Hinton et al. 2015, section 2)

python -m stages.distill small models/base models/base models/dpo/chat data/teacher/small.safetensors \
    models/distill/small metrics/distill/small.json plots/distill/small.tsv
"""

from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, Field
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, Trainer, TrainingArguments

from ladder.distillation import TeacherLogits, distillation_loss, load_teacher
from ladder.models import Model, check_parent, check_same_tokenizer, load_complete, read_rung, rung_name
from ladder.run import Refused, Section, run
from ladder.training import Climb, build, fit_and_save, passes, set_seed, trainer_arguments


class Params(Section):
    parent: str
    """The rung whose layers the student keeps."""
    teacher: str
    """The rung it learns from; the teacher's logits must be of this rung."""
    data: str
    """The teacher's logits: `teacher/small`."""
    drop_layers: list[int]
    """Layers that the student leaves out, counted from 0."""
    alpha: Annotated[float, Field(ge=0, le=1)]
    """Share of the cross-entropy with the answers."""
    temperature: Annotated[float, Field(gt=0)]
    """Softens both distributions."""
    trainer: Annotated[dict[str, Any], AfterValidator(passes(TrainingArguments))]
    """transformers' TrainingArguments."""


class DistillationTrainer(Trainer):
    """transformers' trainer with the loss above, on the answers' tokens alone."""

    alpha: float
    temperature: float

    def compute_loss(self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> torch.Tensor:
        hidden = self.accelerator.unwrap_model(model).model(input_ids=inputs["input_ids"]).last_hidden_state
        mask = inputs["mask"].bool()
        logits = self.accelerator.unwrap_model(model).lm_head(hidden[:, :-1][mask[:, 1:]]).float()
        loss, cross_entropy, divergence = distillation_loss(
            logits,
            inputs["input_ids"][mask],
            inputs["indices"],
            inputs["values"],
            alpha=self.alpha,
            temperature=self.temperature,
        )
        self.parts = {"cross_entropy": cross_entropy.item(), "kl": divergence.item()}
        return loss

    def log(self, logs: dict[str, float], *rest: Any) -> None:
        super().log({**logs, **self.parts} if "loss" in logs else logs, *rest)


def examples(logits: TeacherLogits) -> list[dict[str, torch.Tensor]]:
    """One example a row: input_ids, mask [length]; indices, values [learned, k]."""
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), logits.mask.cumsum(0)])
    rows = []
    for start, end in zip(logits.offsets[:-1].tolist(), logits.offsets[1:].tolist(), strict=True):
        learned = slice(int(starts[start]), int(starts[end]))
        rows.append(
            {
                "input_ids": logits.ids[start:end],
                "mask": logits.mask[start:end],
                "indices": logits.indices[learned],
                "values": logits.values[learned],
            }
        )
    return rows


def collate(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Pad ids and masks with 0 on the right [rows, longest]; the learned tokens stand one after another."""
    return {
        "input_ids": pad_sequence([row["input_ids"] for row in rows], batch_first=True),
        "mask": pad_sequence([row["mask"] for row in rows], batch_first=True),
        "indices": torch.cat([row["indices"] for row in rows]),
        "values": torch.cat([row["values"] for row in rows]),
    }


def drop_layers(model: PreTrainedModel, dropped: list[int]) -> PreTrainedModel:
    """The model without some of its layers; what is left is numbered anew, for the cache and the saved config."""
    layers = model.model.layers
    outside = sorted(set(dropped) - set(range(len(layers))))
    if outside:
        raise Refused(f"drop_layers: {outside} are not layers of a model of {len(layers)} (0 to {len(layers) - 1})")
    kept = [number for number in range(len(layers)) if number not in dropped]
    model.model.layers = torch.nn.ModuleList(layers[number] for number in kept)
    for number, layer in enumerate(model.model.layers):
        layer.self_attn.layer_idx = number
    model.config.num_hidden_layers = len(kept)
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = [model.config.layer_types[number] for number in kept]
    return model


def main(
    params: Params, parent: Path, base: Path, teacher: Path, data: Path, output: Path, metrics: Path, curve: Path
) -> None:
    logits, taught_by = load_teacher(data), read_rung(teacher)
    check_parent(str(data), taught_by, logits.teacher)
    with trainer_arguments(params.trainer) as arguments:
        config = build(TrainingArguments, arguments)
        set_seed(config.seed)
        whole = load_complete(parent, base, dtype=torch.float32)
        check_same_tokenizer(whole.rung, taught_by)
        student = Model(drop_layers(whole.model, params.drop_layers).requires_grad_(True), whole.tokenizer, whole.rung)
        trainer = DistillationTrainer(student.model, config, train_dataset=examples(logits), data_collator=collate)
        trainer.alpha, trainer.temperature = params.alpha, params.temperature
        trainer.model_accepts_loss_kwargs = False  # the loss is a mean: over accumulated batches it is averaged
        fit_and_save(
            trainer,
            Climb(student, whole.rung, None),
            rung=rung_name(output),
            method="distill",
            settings=params.model_dump(),
            parents={whole.rung.rung: whole.rung, taught_by.rung: taught_by},
            output=output,
            metrics=metrics,
            curve=curve,
            measured={"rows": len(logits.offsets) - 1},
            endings={"loss": "loss", "cross_entropy": "cross_entropy", "kl": "kl"},
        )


if __name__ == "__main__":
    run(main, named=True)
