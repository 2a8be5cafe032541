"""Direct preference optimization (DPO): raise the chosen answer over the rejected one, relative to the reference.

L = -log sigma(beta * ((log pi(y_w|x) - log pi_ref(y_w|x)) - (log pi(y_l|x) - log pi_ref(y_l|x))))
(Rafailov et al. 2023, eq. 7)

y_w is the chosen answer, y_l the rejected one. pi_ref is the parent; stage `reference` precomputes its
log-probabilities.

python -m stages.dpo chat models/sft/chat models/base data/reference_logprobs/chat.jsonl \
    models/dpo/chat metrics/dpo/chat.json plots/dpo/chat.tsv
"""

from pathlib import Path
from typing import Annotated, Any

from datasets import Dataset
from pydantic import AfterValidator, BeforeValidator
from trl import DPOConfig, DPOTrainer

from ladder.chat.context_length import report, within
from ladder.chat.empty_answers import answered_pairs
from ladder.data.jsonl import read_rows
from ladder.models.checkpoint import rung_name
from ladder.models.compute_dtype import compute_dtype
from ladder.models.config_passthrough import adapter_check, build, passes
from ladder.pipeline.stage import run
from ladder.training.model_setup import climb
from ladder.training.pair_examples import check_reference, fitting, referenced_pair_tokens
from ladder.training.train import fit_and_save, trainer_arguments
from ladder.training.validation import Validated, pair_prompt, split


class Params(Validated):
    parent: str
    """Rung to start from, which is also the reference policy: `sft/chat`."""
    data: str
    """Preference pairs with the reference's log-probabilities: `reference_logprobs/chat`."""
    lora: Annotated[Any, BeforeValidator(adapter_check)]
    """peft's LoraConfig, `continue` for the parent's adapter, or null to train all weights."""
    trainer: Annotated[dict[str, Any], AfterValidator(passes(DPOConfig))]
    """TRL's DPOConfig: beta, loss_type and the rest. Pairs longer than its max_length are left out, never truncated."""


class ReferenceTrainer(DPOTrainer):
    """TRL's DPOTrainer for rows that are already tokenized and carry the reference's log-probabilities."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


def main(params: Params, parent: Path, base: Path, data: Path, output: Path, metrics: Path, curve: Path) -> None:
    """Train the parent on the pairs of `data` and save the rung to `output`.

    metrics: JSON with costs, counts and final values. curve: TSV with one line per logged step.
    Errors: UserError when the pairs' reference is not the parent, and for a training that fails its checks.
    """
    rows = read_rows(data)
    with trainer_arguments(params.trainer, compute_dtype(base)) as arguments:
        config = build(DPOConfig, arguments, precompute_ref_log_probs=True)
        climbed = climb(parent, base, params.lora, seed=config.seed, router=config.router_aux_loss_coef)
        check_reference(rows, data, climbed.parent)
        pairs = referenced_pair_tokens(climbed.start.tokenizer, rows, data)
        pairs = fitting(pairs, data, within(config.max_length, climbed.start.model))
        whole = answered_pairs(pairs, data, climbed.start.tokenizer)
        learned, held = split(whole, pair_prompt, params.validation)
        trainer = ReferenceTrainer(
            climbed.start.model,
            args=config,
            train_dataset=Dataset.from_list(learned),
            eval_dataset=Dataset.from_list(held.held_out) if held.held_out else None,
            processing_class=climbed.start.tokenizer,
        )
        if params.lora is not None:
            climbed.start.model.delete_adapter("ref")  # TRL's copy of the reference; the rows have its log-probs
        fit_and_save(
            trainer,
            climbed,
            rung=rung_name(output),
            method="dpo",
            settings=params.model_dump(),
            parents={climbed.parent.rung: climbed.parent},
            output=output,
            metrics=metrics,
            curve=curve,
            measured={
                "pairs": len(learned),
                "too_long": len(rows) - len(pairs),
                **report("dpo", empty_answers=len(pairs) - len(whole)),
                **held.counts,
            },
            endings={"loss": "loss", "accuracy": "rewards/accuracies", "margin": "rewards/margins"},
        )


if __name__ == "__main__":
    run(main, named=True, launch=True)
