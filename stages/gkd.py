"""Generalized knowledge distillation (GKD): distill the teacher on the student's own samples, token by token.

L = D_JSD(beta)(teacher_T || student_T), mean over the tokens of answers (Agarwal et al. 2024, arXiv:2306.13649,
algorithm 1). In a share lmbda of the steps the answers are sampled from the current student; in the others they are
the rows'. lmbda 0 is online distillation on the rows, 1 is on-policy. No gradient passes through the sampling.

python -m stages.gkd online models/prune_layers/shallow models/base models/sft/maths data/problems/maths.jsonl \
    models/gkd/online metrics/gkd/online.json plots/gkd/online.tsv
"""

from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, BeforeValidator, Field
from torch import Tensor
from transformers import PreTrainedTokenizerBase, TrainingArguments

from ladder.chat.context_length import report, within
from ladder.chat.empty_answers import answered
from ladder.chat.encode import conversation, encode, prompt_tokens
from ladder.data.jsonl import Row, of_split, read_rows
from ladder.inference.local import LocalEngine
from ladder.inference.sampling import scramble
from ladder.inference.types import LocalName, Sampling
from ladder.models.checkpoint import check_same_tokenizer, load_complete, read_rung, rung_name
from ladder.models.compute_dtype import compute_dtype
from ladder.models.config_passthrough import adapter_check, build, passes
from ladder.pipeline.stage import UserError, run
from ladder.training.distill_losses import Sums, TokenTrainer, check_whole, generalized_jsd, in_chunks
from ladder.training.model_setup import climb
from ladder.training.sft_examples import Example, collate, example, learned_logits
from ladder.training.train import fit_and_save, trainer_arguments
from ladder.training.unpaired_examples import refuse_unpaired
from ladder.training.validation import Validated, before_answer, split


class Params(Validated):
    parent: str
    """Student to start from: `prune_layers/shallow`."""
    teacher: str
    """Teacher rung; it runs beside the student during training."""
    data: str
    """Rows of prompt and completion; with lmbda 1 prompts are enough: `problems/maths`."""
    split: str | None
    """Split of the rows to use; null takes all."""
    lora: Annotated[Any, BeforeValidator(adapter_check)]
    """peft's LoraConfig, `continue` for the parent's adapter, or null to train all weights."""
    lmbda: Annotated[float, Field(ge=0, le=1)]
    """Share of the steps that use the student's own answers, in [0, 1]."""
    beta: Annotated[float, Field(ge=0, le=1)]
    """Interpolation of the divergence: 0 is the forward KL (mode-covering), 1 the reverse KL (mode-seeking)."""
    temperature: Annotated[float, Field(gt=0)]
    """Temperature of both distributions in the loss."""
    sampling_temperature: Annotated[float, Field(ge=0)]
    """Sampling temperature of the student's own answers."""
    max_new_tokens: int
    """Maximum length of the student's own answers in tokens. A truncated answer is learned without a stop token."""
    max_length: int
    """Maximum length in tokens; longer rows are left out."""
    engine: LocalName = Field(default="auto", exclude_if=lambda engine: engine == "auto")
    """Inference engine of the student's own answers: `auto`, `decoder` or `padded` (ladder/inference/engines.py)."""
    trainer: Annotated[dict[str, Any], AfterValidator(passes(TrainingArguments, "tokens"))]
    """transformers' TrainingArguments."""


class GKDTrainer(TokenTrainer):
    """Trainer with the loss of this module; before an on-policy step it answers all the step's prompts at once."""

    params: Params
    teacher: Any
    student_tokenizer: PreTrainedTokenizerBase

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[Any, Any]:
        """Fetch a step's batches; on an on-policy step, replace their answers by the student's own."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        # Seeded by the step number, so all processes choose alike and a resumed run makes the same choices.
        seed = scramble(scramble(self.args.seed) ^ self.state.global_step)
        if batches and seed < self.params.lmbda * 2**32:
            batches = self.answered(batches, scramble(seed ^ (self.args.process_index + 1)))
        return batches, self._get_num_items_in_batch(batches, device)

    def answered(self, batches: list[Example], seed: int) -> list[Example]:
        """Return the batches with the rows' answers replaced by the student's own."""
        lengths = [length for batch in batches for length in batch["prompt_length"].tolist()]
        rows = [row for batch in batches for row in batch["input_ids"].tolist()]
        prompts = [row[:length] for row, length in zip(rows, lengths, strict=True)]
        sampling = Sampling(self.params.sampling_temperature, 1.0, self.params.max_new_tokens, seed)
        student = LocalEngine(self.accelerator.unwrap_model(self.model), self.student_tokenizer, self.params.engine)
        answers = student.complete(prompts, sampling)
        own = []
        for prompt, answer in zip(prompts, answers, strict=True):
            said = answer.tokens + [self.student_tokenizer.eos_token_id] * answer.finished
            own.append(example(prompt + said, [0] * len(prompt) + [1] * len(said)))
        device, sizes = batches[0]["input_ids"].device, [len(batch["input_ids"]) for batch in batches]
        starts = [sum(sizes[:number]) for number in range(len(sizes))]
        return [
            {name: part.to(device) for name, part in collate(own[start : start + size]).items()}
            for start, size in zip(starts, sizes, strict=True)
        ]

    def sums(self, model: Any, batch: Example) -> Sums:
        """Return the loss and the number of on-policy tokens, each summed over the batch's learned tokens."""
        student, _ = learned_logits(model, batch)
        with torch.no_grad():
            teacher, _ = learned_logits(self.teacher, batch)
        own = (batch["labels"] != -100).sum() * ("prompt_length" not in batch)
        return {"loss": in_chunks(self.jsd, student, teacher)[0], "on_policy": own}

    def jsd(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return [1]: the divergence summed over a chunk's tokens."""
        beta, temperature = self.params.beta, self.params.temperature
        return generalized_jsd(student, teacher, beta=beta, temperature=temperature).sum()[None]


def gkd_examples(
    rows: list[Row], data: Path, tokenizer: PreTrainedTokenizerBase, params: Params, context: int | None = None
) -> list[Example]:
    """Encode each row that fits: input_ids, labels [length] and prompt_length; labels are all -100 for a bare prompt.

    A row fits when it has at most max_length tokens. Both the row and its prompt with max_new_tokens sampled tokens
    must also fit the models' `context`.

    Errors: UserError for a row without an answer when lmbda is below 1, and when no row fits.
    """
    refuse_unpaired(rows, data)
    learned = []
    for number, row in enumerate(rows, 1):
        where = f"{data}: row {number}"
        bare = "messages" not in row and "completion" not in row
        if bare and params.lmbda < 1:
            raise UserError(
                f"{where}: no completion; expected one, because lmbda {params.lmbda} also trains on the rows' answers"
            )
        messages = conversation({**row, "completion": []} if bare else row, where)
        prompt = prompt_tokens(tokenizer, messages if bare else messages[:-1], where)
        ids, mask = (prompt, [0] * len(prompt)) if bare else encode(tokenizer, messages, where)
        sampled = len(prompt) + params.max_new_tokens if params.lmbda > 0 else 0
        if len(ids) <= params.max_length and (context is None or max(len(ids), sampled) <= context):
            learned.append({**example(ids, mask), "prompt_length": torch.tensor(len(prompt))})
    if not learned:
        raise UserError(
            f"{data}: none of {len(rows)} rows fits max_length {params.max_length} and the context of {context}"
        )
    return learned


def collate_gkd(rows: list[Example]) -> Example:
    """Pad a batch of rows and add prompt_length [rows]."""
    return {**collate(rows), "prompt_length": torch.stack([row["prompt_length"] for row in rows])}


def main(
    params: Params, parent: Path, base: Path, teacher: Path, data: Path, output: Path, metrics: Path, curve: Path
) -> None:
    """Train the student on the rows of `data`, or on its own answers, beside the teacher; save the rung to `output`.

    metrics: JSON with costs, counts and final values. curve: TSV with one line per logged step.
    Errors: UserError when the tokenizers differ, no row fits, or held-out rows have no answer.
    """
    rows = of_split(read_rows(data), params.split, data)
    check_same_tokenizer(read_rung(parent), read_rung(teacher))
    with trainer_arguments(params.trainer, compute_dtype(base)) as arguments:
        config = build(TrainingArguments, arguments)
        climbed, taught_by = (
            climb(parent, base, params.lora, seed=config.seed, fused=False),
            load_complete(teacher, base),
        )
        context = within(None, climbed.start.model, taught_by.model)
        fitting = gkd_examples(rows, data, climbed.start.tokenizer, params, context)
        whole = answered(fitting, data, climbed.start.tokenizer)
        learned, held = split(whole, before_answer, params.validation)
        if any((row["labels"] == -100).all() for row in held.held_out):
            raise UserError(f"{data}: validation is measured on the rows' answers, but some rows have none. Omit it.")
        trainer = GKDTrainer(
            climbed.start.model,
            args=config,
            train_dataset=learned,
            eval_dataset=held.held_out or None,
            data_collator=collate_gkd,
        )
        trainer.params, trainer.student_tokenizer = params, climbed.start.tokenizer
        if params.lmbda > 0:
            check_whole(trainer, "lmbda")
        trainer.teacher = taught_by.model.eval().requires_grad_(False).to(config.device)
        fit_and_save(
            trainer,
            climbed,
            rung=rung_name(output),
            method="gkd",
            settings=params.model_dump(),
            parents={climbed.parent.rung: climbed.parent, taught_by.rung.rung: taught_by.rung},
            output=output,
            metrics=metrics,
            curve=curve,
            measured={
                "rows": len(learned),
                "too_long": len(rows) - len(fitting),
                **report("gkd", empty_answers=len(fitting) - len(whole)),
                **held.counts,
            },
            endings={"loss": "loss", "on_policy": "on_policy"},
        )


if __name__ == "__main__":
    run(main, named=True, launch=True)
