"""Feature distillation: match the student's hidden states and attention maps to the teacher's, and its outputs.

L = cross_entropy * CE + kl * T^2 * KL(teacher_T || student_T) + hidden * L_hidn + attention * L_attn
(Jiao et al. 2020, eq. 7, 8, 10, 11), at the positions that predict an answer's token, mean over the mapped layers.

L_hidn = |H_student W - H_teacher|^2 / |H_teacher|^2. The learned projection W starts as the identity where the widths
are equal, and is discarded after training. The division makes one weight fit layers of every size.

L_attn = mean over heads of |A_student - A_teacher|^2, for the maps after the softmax. It is a sum over the tokens
attended to, not their mean, so one weight fits contexts of every length. It lies between 0 and 2.

python -m stages.distill_features maths models/prune_layers/shallow models/base models/sft/maths \
    data/problems/maths.jsonl models/distill_features/maths metrics/distill_features/maths.json \
    plots/distill_features/maths.tsv
"""

from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import AfterValidator, Field
from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback, TrainingArguments

from ladder.chat.context_length import report, within
from ladder.chat.empty_answers import answered
from ladder.data.jsonl import of_split, read_rows
from ladder.models.checkpoint import check_same_tokenizer, load_complete, read_rung, rung_name
from ladder.models.compute_dtype import compute_dtype
from ladder.models.config_passthrough import build, passes
from ladder.models.layer_pruning import layer_map
from ladder.pipeline.stage import UserError, run
from ladder.training.distill_losses import Sums, TokenTrainer, check_whole, divergence, in_chunks
from ladder.training.model_setup import climb
from ladder.training.sft_examples import Example, collate, examples, learned_logits, where_learned
from ladder.training.train import fit_and_save, trainer_arguments
from ladder.training.validation import Validated, before_answer, split

Weight = Annotated[float, Field(ge=0)]


class Params(Validated):
    parent: str
    """Student to start from; all its weights are trained: `prune_layers/shallow`."""
    teacher: str
    """Teacher rung; it runs beside the student during training."""
    data: str
    """Rows with answers: `problems/maths`."""
    split: str | None
    """Split of the rows to use; null takes all."""
    layers: dict[int, int] | None
    """{student's layer: teacher's layer}, from 0. Null maps the layers the student kept, else evenly spaced ones."""
    cross_entropy: Weight
    """Weight of the cross-entropy with the rows' tokens."""
    kl: Weight
    """Weight of the KL divergence from the teacher's distribution."""
    hidden: Weight
    """Weight of the loss on the hidden states after each mapped layer (for the last layer, after its norm).

    The projections count among the trainable parameters, and the rung does not keep them.
    """
    attention: Weight
    """Weight of the loss on the attention maps of each mapped layer. Above 0, attention is eager and takes memory."""
    temperature: Annotated[float, Field(gt=0)]
    """Temperature of both distributions in the KL."""
    max_length: int
    """Maximum length in tokens; longer rows are left out."""
    trainer: Annotated[dict[str, Any], AfterValidator(passes(TrainingArguments, "tokens"))]
    """transformers' TrainingArguments."""


class Projections(TrainerCallback):
    """Learned projections from the student's mapped hidden states to the teacher's width, removed after training.

    They run inside the student's forward pass, so their gradients are synchronized like all others.
    """

    def __init__(self, student: PreTrainedModel, layers: list[int], width: int) -> None:
        self.student, self.layers = student, layers
        own = student.config.hidden_size
        projections = [torch.nn.Linear(own, width, bias=False) for _ in layers]
        if own == width:
            for projection in projections:
                torch.nn.init.eye_(projection.weight)
        student.projections = torch.nn.ModuleList(projections).to(student.device)
        self.hook = student.register_forward_hook(self.project)

    def project(self, student: Any, _: Any, output: Any) -> None:
        """Replace the mapped hidden states by their projections. A forward hook of the student."""
        states = list(output.hidden_states)
        for layer, projection in zip(self.layers, student.projections, strict=True):
            states[layer + 1] = projection(states[layer + 1])
        output.hidden_states = tuple(states)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Remove the projections and the hook."""
        self.hook.remove()
        del self.student.projections


class FeatureTrainer(TokenTrainer):
    """Trainer with the loss of this module; it runs the teacher beside the student."""

    params: Params
    teacher: Any
    layers: dict[int, int]

    def sums(self, model: Any, batch: Example) -> Sums:
        """Return the loss and its parts, each summed over the batch's learned tokens."""
        wanted = {"output_hidden_states": True, "output_attentions": self.params.attention > 0}
        logits, student = learned_logits(model, batch, **wanted)
        with torch.no_grad():
            taught, teacher = learned_logits(self.teacher, batch, **wanted)
        labels = batch["labels"][:, 1:]
        cross_entropy, kl = in_chunks(self.of_logits, logits, taught, labels[labels != -100])
        parts = {"cross_entropy": cross_entropy, "kl": kl}
        columns, mask = where_learned(batch["labels"])
        if self.params.hidden > 0:
            parts["hidden"] = torch.stack(
                [
                    hidden_distance(
                        student.hidden_states[own + 1][:, columns][mask],
                        teacher.hidden_states[other + 1][:, columns][mask],
                    )
                    for own, other in self.layers.items()
                ]
            ).mean()
        if self.params.attention > 0:
            parts["attention"] = torch.stack(
                [
                    attention_distance(
                        student.attentions[own][:, :, columns].transpose(1, 2)[mask],
                        teacher.attentions[other][:, :, columns].transpose(1, 2)[mask],
                    )
                    for own, other in self.layers.items()
                ]
            ).mean()
        scale = {name: getattr(self.params, name) for name in parts}
        scale["kl"] *= self.params.temperature**2
        return {"loss": torch.stack([scale[name] * part for name, part in parts.items()]).sum(), **parts}

    def of_logits(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Return [2]: cross-entropy and KL, summed over a chunk's tokens."""
        soft = (teacher / self.params.temperature).log_softmax(-1), (student / self.params.temperature).log_softmax(-1)
        return torch.stack([F.cross_entropy(student, labels, reduction="sum"), divergence(*soft).sum()])


def hidden_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of hidden states [tokens, width], divided by the teacher's squared norm, summed over tokens."""
    student, teacher = student.float(), teacher.float()
    return ((student - teacher).square().sum(-1) / teacher.square().sum(-1)).sum()


def attention_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of attention maps [tokens, heads, keys], mean over heads, summed over tokens."""
    return (student.float() - teacher.float()).square().sum(-1).mean(-1).sum()


def check_shapes(student: Any, teacher: Any, params: Params) -> None:
    """Refuse attention maps when the two models have different numbers of heads. Errors: UserError."""
    ours, theirs = student.num_attention_heads, teacher.num_attention_heads
    if params.attention > 0 and ours != theirs:
        raise UserError(
            f"attention: expected equal numbers of heads, got {ours} in {params.parent} and {theirs} in "
            f"{params.teacher}. Set it to 0."
        )


def main(
    params: Params, parent: Path, base: Path, teacher: Path, data: Path, output: Path, metrics: Path, curve: Path
) -> None:
    """Train the student on the rows of `data` beside the teacher, and save the rung to `output`.

    metrics: JSON with costs, counts and final values. curve: TSV with one line per logged step.
    Errors: UserError when the tokenizers differ, or the attention maps do not match.
    """
    rows = of_split(read_rows(data), params.split, data)
    check_same_tokenizer(read_rung(parent), read_rung(teacher))
    with trainer_arguments(params.trainer, compute_dtype(base)) as arguments:
        config = build(TrainingArguments, arguments)
        climbed, taught_by = climb(parent, base, None, seed=config.seed), load_complete(teacher, base)
        student, above = climbed.start.model, taught_by.model.eval().requires_grad_(False).to(config.device)
        check_shapes(student.config, above.config, params)
        layers = layer_map(student.config, above.config, params.layers)
        fitting = examples(rows, data, climbed.start.tokenizer, within(params.max_length, student, above))
        whole = answered(fitting, data, climbed.start.tokenizer)
        learned, held = split(whole, before_answer, params.validation)
        if params.attention > 0:
            student.set_attn_implementation("eager")
            above.set_attn_implementation("eager")
        trainer = FeatureTrainer(
            student,
            args=config,
            train_dataset=learned,
            eval_dataset=held.held_out or None,
            data_collator=collate,
        )
        trainer.params, trainer.teacher, trainer.layers = params, above, layers
        if params.hidden > 0:
            check_whole(trainer, "hidden")
            trainer.add_callback(Projections(student, list(layers), above.config.hidden_size))
        parts = ["cross_entropy", "kl", *(name for name in ("hidden", "attention") if getattr(params, name) > 0)]
        fit_and_save(
            trainer,
            climbed,
            rung=rung_name(output),
            method="distill_features",
            settings={**params.model_dump(), "layers": {str(own): other for own, other in layers.items()}},
            parents={climbed.parent.rung: climbed.parent, taught_by.rung.rung: taught_by.rung},
            output=output,
            metrics=metrics,
            curve=curve,
            measured={
                "rows": len(learned),
                "too_long": len(rows) - len(fitting),
                **report("distill_features", empty_answers=len(fitting) - len(whole)),
                **held.counts,
            },
            endings={"loss": "loss", **{name: name for name in parts}},
        )


if __name__ == "__main__":
    run(main, named=True, launch=True)
