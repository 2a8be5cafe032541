"""Kahneman-Tversky optimization (KTO): raise good answers and lower bad ones, each by itself, against a reference.

L = E[lambda_y - v(x, y)],  r = log pi(y|x) - log pi_ref(y|x),  z0 = KL(pi || pi_ref),
v = lambda_D * sigma(beta * (r - z0)) for a chosen answer, lambda_U * sigma(beta * (z0 - r)) for a rejected one
(Ethayarajh et al. 2024, eq. 8)

z0 is estimated from answers to other prompts and has no gradient. The input is pairs, whose two answers become two
rows, or unpaired preferences: `prompt, completion, label`.

python -m stages.kto words models/sft/words models/base data/reference_logprobs/words.jsonl models/kto/words \
    metrics/kto/words.json plots/kto/words.tsv
"""

import random
from pathlib import Path
from typing import Annotated, Any

import torch
from datasets import Dataset
from pydantic import AfterValidator, BeforeValidator
from transformers import PreTrainedTokenizerBase
from trl import KTOConfig, KTOTrainer

from ladder.chat.context_length import report, within
from ladder.chat.empty_answers import answered_pairs
from ladder.data.jsonl import Row, read_rows
from ladder.models.checkpoint import Model, device, rung_name
from ladder.models.compute_dtype import compute_dtype
from ladder.models.config_passthrough import adapter_check, build, passes
from ladder.models.scoring import completion_logps
from ladder.pipeline.stage import UserError, run
from ladder.training.model_setup import climb
from ladder.training.pair_examples import check_reference, fitting, referenced_pair_tokens
from ladder.training.train import fit_and_save, trainer_arguments
from ladder.training.unpaired_examples import all_unpaired, referenced_tokens, spread
from ladder.training.unpaired_examples import fitting as fitting_answers
from ladder.training.validation import Validated, Validation, pair_prompt, split


class Params(Validated):
    parent: str
    """Rung to start from, which is also the reference policy: `sft/words`."""
    data: str
    """Rows with the reference's log-probabilities: `reference_logprobs/words`. Each pair gives two training rows, an
    unpaired preference gives one, good or bad by its label. KTOConfig's desirable_weight and undesirable_weight balance
    unequal numbers of the two."""
    lora: Annotated[Any, BeforeValidator(adapter_check)]
    """peft's LoraConfig, `continue` for the parent's adapter, or null to train all weights."""
    trainer: Annotated[dict[str, Any], AfterValidator(passes(KTOConfig))]
    """TRL's KTOConfig: beta, loss_type and the rest. Pairs longer than its max_length are left out, never truncated."""


class ReferenceTrainer(KTOTrainer):
    """TRL's KTOTrainer for rows that are already tokenized and carry the reference's log-probabilities."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


def unpaired(pairs: list[Row], seed: int) -> list[Row]:
    """Split pairs into rows of prompt_ids, completion_ids, label and ref_logps. Good and bad answers alternate.

    Each batch then has both labels. TRL reads KTO's rows in the order given, so this function shuffles them. The bad
    answer after a good one is from another pair.
    """
    order = random.Random(seed).sample(pairs, len(pairs))
    half = len(order) // 2
    return [
        {
            "prompt_ids": pair["prompt_ids"],
            "completion_ids": pair[f"{answer}_ids"],
            "label": answer == "chosen",
            "ref_logps": pair[f"ref_{answer}_logps"],
        }
        for good, bad in zip(order, order[half:] + order[:half], strict=True)
        for answer, pair in (("chosen", good), ("rejected", bad))
    ]


def learned_rows(
    rows: list[Row],
    data: Path,
    tokenizer: PreTrainedTokenizerBase,
    limit: int | None,
    seed: int,
    validation: Validation | None,
) -> tuple[list[Row], list[Row], dict[str, float]]:
    """Return (training rows, held-out rows, counts for the metrics). A row has prompt_ids, completion_ids, label and
    ref_logps; rows are in training order. `limit` is the longest conversation in tokens.
    """
    if all_unpaired(rows, data):
        kept = fitting_answers(referenced_tokens(tokenizer, rows, data), data, limit)
        answers, held = split(kept, pair_prompt, validation)
        good = sum(row["label"] for row in answers)
        counts = {"good": good, "bad": len(answers) - good, "too_long": len(rows) - len(kept), **held.counts}
        return spread(answers, seed), spread(held.held_out, seed), counts
    fit = fitting(referenced_pair_tokens(tokenizer, rows, data), data, limit)
    whole = answered_pairs(fit, data, tokenizer)
    pairs, held = split(whole, pair_prompt, validation)
    counts = {"pairs": len(pairs), "too_long": len(rows) - len(fit), **held.counts}
    empty = report("kto", empty_answers=len(fit) - len(whole))
    return unpaired(pairs, seed), unpaired(held.held_out, seed), {**counts, **empty}


def mismatched(rows: list[Row], max_length: int | None) -> list[list[int]]:
    """For each row, return the nearest earlier answer to another prompt, truncated to max_length; wrap at the start.

    TRL would take the answer of the previous row, which may have the same prompt; z0 needs unrelated answers.
    """
    found = []
    for place, row in enumerate(rows):
        others = (rows[place - back] for back in range(1, len(rows)))
        other = next((other for other in others if other["prompt_ids"] != row["prompt_ids"]), None)
        if other is None:
            raise UserError("kto: expected pairs of at least two prompts: z0 is measured on answers to another prompt")
        found.append(other["completion_ids"][: max_length and max_length - len(row["prompt_ids"])])
    return found


def with_mismatched(rows: list[Row], start: Model, config: KTOConfig) -> list[Row]:
    """Add KL_completion_ids and their log-probabilities under the model before training."""
    answers = mismatched(rows, config.max_length)
    start.model.eval()
    with torch.autocast(device().type, torch.bfloat16, enabled=bool(config.bf16)):
        logps = completion_logps(start, [row["prompt_ids"] for row in rows], answers, progress="kto reference")
    return [
        {**row, "KL_completion_ids": answer, "ref_KL_logps": logp}
        for row, answer, logp in zip(rows, answers, logps, strict=True)
    ]


def main(params: Params, parent: Path, base: Path, data: Path, output: Path, metrics: Path, curve: Path) -> None:
    """Train the parent on the rows of `data` and save the rung to `output`.

    metrics: JSON with costs, counts and final values. curve: TSV with one line per logged step.
    Errors: UserError when the rows' reference is not the parent, or loss_type kto has a batch size below 2.
    """
    rows = read_rows(data)
    with trainer_arguments(params.trainer, compute_dtype(base)) as arguments:
        config = build(KTOConfig, arguments, precompute_ref_log_probs=True)
        if config.loss_type == "kto" and config.per_device_train_batch_size < 2:
            raise UserError("trainer.per_device_train_batch_size: expected 2 or more: z0 is a mean over the batch")
        if config.loss_type == "kto" and params.validation and config.per_device_eval_batch_size < 2:
            raise UserError("trainer.per_device_eval_batch_size: expected 2 or more: z0 is a mean over the batch")
        climbed = climb(parent, base, params.lora, seed=config.seed, router=config.router_aux_loss_coef)
        check_reference(rows, data, climbed.parent)
        limit = within(config.max_length, climbed.start.model)
        tokenizer = climbed.start.tokenizer
        learned, held_out, counts = learned_rows(rows, data, tokenizer, limit, config.seed, params.validation)
        if config.loss_type == "kto":
            learned = with_mismatched(learned, climbed.start, config)
            held_out = with_mismatched(held_out, climbed.start, config) if held_out else []
        trainer = ReferenceTrainer(
            climbed.start.model,
            args=config,
            train_dataset=Dataset.from_list(learned),
            eval_dataset=Dataset.from_list(held_out) if held_out else None,
            processing_class=climbed.start.tokenizer,
        )
        if params.lora is not None:
            climbed.start.model.delete_adapter("ref")  # TRL's copy of the reference; the rows have its log-probs
        fit_and_save(
            trainer,
            climbed,
            rung=rung_name(output),
            method="kto",
            settings=params.model_dump(),
            parents={climbed.parent.rung: climbed.parent},
            output=output,
            metrics=metrics,
            curve=curve,
            measured=counts,
            endings={"loss": "loss", "margin": "rewards/margins", "kl": "kl"},
        )


if __name__ == "__main__":
    run(main, named=True, launch=True)
