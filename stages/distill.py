"""Distillation from a teacher's stored token distributions (offline soft targets).

L = alpha * CE + (1 - alpha) * T^2 * KL(teacher_T || student_T)      (Hinton et al. 2015, section 2)

CE is the cross-entropy with the answers' tokens. T is the temperature that the targets were stored with (stage
`teacher`).

python -m stages.distill small models/prune_layers/small models/base models/dpo/chat \
    data/teacher_logits/chat.safetensors models/distill/small metrics/distill/small.json plots/distill/small.tsv
"""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, Field
from transformers import TrainingArguments

from ladder.chat.context_length import report, within
from ladder.models.checkpoint import check_parent, check_same_tokenizer, read_rung, rung_name
from ladder.models.compute_dtype import compute_dtype
from ladder.models.config_passthrough import build, passes
from ladder.pipeline.stage import UserError, run
from ladder.training.distill_losses import Sums, TokenTrainer, hinton_sums, in_chunks
from ladder.training.model_setup import climb
from ladder.training.sft_examples import Example, collate, example, learned_logits
from ladder.training.teacher_logits import Taught, load_taught, target
from ladder.training.train import fit_and_save, trainer_arguments
from ladder.training.validation import Validated, before_answer, split

TARGET = ("indices", "weights", "rest", "entropy")


class Params(Validated):
    parent: str
    """Student to start from; all its weights are trained: `prune_layers/small`."""
    teacher: str
    """Teacher rung. The stored targets must come from this rung."""
    data: str
    """Stored targets of the teacher: `teacher_logits/chat`. Their temperature is also applied to the student."""
    alpha: Annotated[float, Field(ge=0, le=1)]
    """Weight of the cross-entropy with the answers, in [0, 1]; 1 ignores the teacher."""
    trainer: Annotated[dict[str, Any], AfterValidator(passes(TrainingArguments, "tokens"))]
    """transformers' TrainingArguments."""


class DistillationTrainer(TokenTrainer):
    """Trainer with the loss of this module, on the answers' tokens only."""

    alpha: float
    temperature: float

    def sums(self, model: Any, batch: Example) -> Sums:
        """Return the loss, the cross-entropy and the KL, each summed over the batch's learned tokens."""
        logits, _ = learned_logits(model, batch)
        labels = batch["labels"][:, 1:]
        loss = partial(hinton_sums, alpha=self.alpha, temperature=self.temperature)
        sums = in_chunks(loss, logits, labels[labels != -100], *(batch[name] for name in TARGET))
        return dict(zip(("loss", "cross_entropy", "kl"), sums, strict=True))


def taught_examples(taught: Taught) -> list[Example]:
    """Build one example per row: input_ids, labels [length]; indices, weights [learned, k]; rest, entropy [learned]."""
    whole, counts = target(taught.kept), [int(mask.sum()) for mask in taught.learned]
    parts = zip(*(getattr(whole, name).split(counts) for name in TARGET), strict=True)
    return [
        {**example(ids.tolist(), mask.tolist()), **dict(zip(TARGET, part, strict=True))}
        for ids, mask, part in zip(taught.ids, taught.learned, parts, strict=True)
    ]


def collate_taught(rows: list[Example]) -> Example:
    """Pad a batch of rows; concatenate the teacher's targets of all rows along the token dimension."""
    return {**collate(rows), **{name: torch.cat([row[name] for row in rows]) for name in TARGET}}


def main(
    params: Params, parent: Path, base: Path, teacher: Path, data: Path, output: Path, metrics: Path, curve: Path
) -> None:
    """Train the student on the teacher's targets in `data` and save the rung to `output`.

    metrics: JSON with costs, counts and final values. curve: TSV with one line per logged step.
    Errors: UserError when the targets come from another teacher, the tokenizers differ, or no row fits the context.
    """
    taught, taught_by = load_taught(data), read_rung(teacher)
    check_parent(str(data), taught_by, taught.teacher)
    check_same_tokenizer(read_rung(parent), taught_by)
    with trainer_arguments(params.trainer, compute_dtype(base)) as arguments:
        config = build(TrainingArguments, arguments)
        climbed = climb(parent, base, None, seed=config.seed)
        whole = taught_examples(taught)
        limit = within(None, climbed.start.model)
        fitting = [row for row in whole if limit is None or len(row["input_ids"]) <= limit]
        if not fitting:
            raise UserError(f"{data}: none of {len(whole)} rows fits the student's context of {limit} tokens")
        learned, held = split(fitting, before_answer, params.validation)
        trainer = DistillationTrainer(
            climbed.start.model,
            args=config,
            train_dataset=learned,
            eval_dataset=held.held_out or None,
            data_collator=collate_taught,
        )
        trainer.alpha, trainer.temperature = params.alpha, taught.temperature
        fit_and_save(
            trainer,
            climbed,
            rung=rung_name(output),
            method="distill",
            settings=params.model_dump(),
            parents={climbed.parent.rung: climbed.parent, taught_by.rung: taught_by},
            output=output,
            metrics=metrics,
            curve=curve,
            measured={
                "rows": len(learned),
                **report("distill", too_long=len(whole) - len(fitting)),
                **held.counts,
            },
            endings={"loss": "loss", "cross_entropy": "cross_entropy", "kl": "kl"},
        )


if __name__ == "__main__":
    run(main, named=True, launch=True)
