"""Supervised fine-tuning (SFT) with the loss on assistant tokens only.

L = -(1/N) sum_t log pi(y_t | x, y_<t)

The sum is over the N assistant tokens y_t. Each token is conditioned on the tokens before it in its own
conversation, also when rows are packed.

python -m stages.sft chat models/base models/base data/filter/chat.jsonl models/sft/chat \
    data/sft/chat.masks.txt metrics/sft/chat.json plots/sft/chat.tsv
"""

from pathlib import Path
from typing import Annotated, Any

from datasets import Dataset
from peft import PeftModel
from pydantic import AfterValidator, BeforeValidator, Field
from transformers import PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer, pack_dataset

from ladder.chat.context_length import report, within
from ladder.chat.empty_answers import answered
from ladder.chat.encode import mask_sample
from ladder.data.jsonl import Row, read_rows, write_text
from ladder.models.checkpoint import rung_name
from ladder.models.compute_dtype import compute_dtype
from ladder.models.config_passthrough import adapter_check, build, passes, quantization_check
from ladder.models.lora import adapters_unrounded, lora_plus_optimizer
from ladder.pipeline.launch import rank
from ladder.pipeline.stage import UserError, run
from ladder.training.micro_batches import MicroBatches, one_batch, with_liger
from ladder.training.model_setup import climb
from ladder.training.row_layout import lay_out
from ladder.training.sft_examples import Example, examples
from ladder.training.train import fit_and_save, trainer_arguments
from ladder.training.validation import Validated, before_answer, split


class Params(Validated):
    parent: str
    """Rung to start from: `base`, `sft/chat`."""
    data: str
    """Training rows: `filter/chat`, `problems/maths`."""
    lora: Annotated[Any, BeforeValidator(adapter_check)]
    """peft's LoraConfig (use_dora, use_rslora), `continue` for the parent's adapter, or null to train all weights."""
    quantization: Annotated[Any, BeforeValidator(quantization_check)] = None
    """transformers' BitsAndBytesConfig for the base under the adapter (QLoRA), or null for unquantized weights."""
    lora_plus: Annotated[float, Field(ge=1)] | None = None
    """LoRA+: learning rate of B divided by that of A, at least 1. Null uses one rate for both.

    Hayou et al. 2024 recommend about 16.
    """
    micro_batch_tokens: Annotated[int, Field(ge=1)] | None = Field(None, exclude_if=lambda value: value is None)
    """Tokens of one forward pass; null takes what fits into the GPU's memory (2,048 on a CPU).

    The batch of a step stays the trainer's number of rows, and its loss does not depend on this number.
    """
    trainer: Annotated[dict[str, Any], AfterValidator(passes(SFTConfig))]
    """TRL's SFTConfig. Rows longer than its max_length are left out, never truncated: a truncated answer has no end.

    `packing` fills rows of max_length with whole conversations that do not attend to each other.
    `neftune_noise_alpha` scales the noise by the length of the row, so packed rows get less noise than single ones.
    """


class TokenBatchedSFT(MicroBatches, SFTTrainer):
    """TRL's trainer with micro-batches measured in tokens."""


def token_rows(rows: list[Row], data: Path, tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> list[Row]:
    """Tokenize and mask the rows; return lists for `datasets.Dataset`: input_ids and labels [length]."""
    return as_lists(examples(rows, data, tokenizer, max_length))


def as_lists(rows: list[Example]) -> list[Row]:
    """Convert the tensors of examples to lists."""
    return [{name: part.tolist() for name, part in row.items()} for row in rows]


def dataset(learned: list[Row], config: SFTConfig) -> Dataset:
    """Build the trainer's dataset. With packing, each row also has `seq_lengths`, the lengths of its conversations.

    Errors: UserError when packing is set with the strategy `wrapped` or without a max_length.
    """
    rows = Dataset.from_list(learned)
    if not config.packing:
        return rows
    if config.packing_strategy == "wrapped":
        raise UserError("trainer.packing_strategy: wrapped splits conversations. Use bfd.")
    if config.max_length is None:
        raise UserError("trainer.packing: a packed row has trainer.max_length tokens; expected a number, got null")
    return pack_dataset(rows, config.max_length, config.packing_strategy)


def make_trainer(
    model: Any,
    config: SFTConfig,
    tokenizer: PreTrainedTokenizerBase,
    learned: list[Row],
    held_out: list[Row],
    tokens: int | None,
) -> TokenBatchedSFT:
    """Trainer on tokenized rows, laid end to end where the model allows it.

    `model` may be a PeftModel; `tokens` is micro_batch_tokens. Errors: UserError as `dataset` and `lay_out`.
    """
    with adapters_unrounded(model):
        trainer = TokenBatchedSFT(
            model,
            args=config,
            train_dataset=dataset(learned, config),
            eval_dataset=Dataset.from_list(held_out) if held_out else None,
            processing_class=tokenizer,
        )
    plain = model.get_base_model() if isinstance(model, PeftModel) else model
    lay_out(trainer, plain, learned, packing=config.packing, tokens=tokens)
    return trainer


def samples(learned: list[Row], tokenizer: PreTrainedTokenizerBase, count: int = 5) -> str:
    """Format the first `count` rows for reading, with the tokens that the loss covers between brackets."""
    texts = [
        mask_sample(tokenizer, row["input_ids"], [int(label != -100) for label in row["labels"]])
        for row in learned[:count]
    ]
    return "Trained text is between ⟦ and ⟧.\n\n" + "\n\n----\n\n".join(texts) + "\n"


def main(
    params: Params, parent: Path, base: Path, data: Path, output: Path, masks: Path, metrics: Path, curve: Path
) -> None:
    """Train the parent on the rows of `data` and save the rung to `output`.

    masks: text file with the first rows and their loss masks. metrics: JSON with costs, counts and final values. curve:
    TSV with one line per logged step.
    Errors: UserError for rows that cannot be tokenized, settings that do not fit, and a training that fails its checks.
    """
    rows = read_rows(data)
    with trainer_arguments(params.trainer, compute_dtype(base)) as arguments:
        config = build(SFTConfig, one_batch(with_liger(arguments)), dataset_kwargs={"skip_prepare_dataset": True})
        climbed = climb(
            parent,
            base,
            params.lora,
            seed=config.seed,
            quantization=params.quantization,
            router=config.router_aux_loss_coef,
        )
        fitting = examples(rows, data, climbed.start.tokenizer, within(config.max_length, climbed.start.model))
        whole = as_lists(answered(fitting, data, climbed.start.tokenizer))
        learned, held = split(whole, before_answer, params.validation)
        if rank() == 0:
            write_text(masks, samples(learned, climbed.start.tokenizer))
        trainer = make_trainer(
            climbed.start.model, config, climbed.start.tokenizer, learned, held.held_out, params.micro_batch_tokens
        )
        if params.lora_plus is not None:
            trainer.optimizer = lora_plus_optimizer(trainer, params.lora_plus)
        fit_and_save(
            trainer,
            climbed,
            rung=rung_name(output),
            method="sft",
            settings=params.model_dump(),
            parents={climbed.parent.rung: climbed.parent},
            output=output,
            metrics=metrics,
            curve=curve,
            measured={
                "rows": len(learned),
                "too_long": len(rows) - len(fitting),
                **report("sft", empty_answers=len(fitting) - len(whole)),
                **held.counts,
            },
            endings={"loss": "loss", "token_accuracy": "mean_token_accuracy"},
        )


if __name__ == "__main__":
    run(main, named=True, launch=True)
