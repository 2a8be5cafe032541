"""Supervised fine-tuning: teach the parent to answer as the rows do, loss on the assistant's turns alone.

python -m stages.sft chat models/base models/base data/filter.jsonl models/sft/chat data/sft/chat.masks.txt \
    metrics/sft/chat.json plots/sft/chat.tsv
"""

from pathlib import Path
from typing import Annotated, Any

from datasets import Dataset
from pydantic import AfterValidator, BeforeValidator
from transformers import PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from ladder.chat import conversation, encode, mask_gate, mask_sample
from ladder.models import rung_name
from ladder.rows import Row, read_rows, write_text
from ladder.run import Refused, Section, run
from ladder.training import adapter_check, build, climb, fit_and_save, passes, trainer_arguments


class Params(Section):
    parent: str
    """The rung it starts from: `base`, `sft/chat`."""
    data: str
    """The stage whose rows it learns: `filter`."""
    lora: Annotated[Any, BeforeValidator(adapter_check)]
    """peft's LoraConfig, `continue` for the parent's adapter, or null to train all weights."""
    trainer: Annotated[dict[str, Any], AfterValidator(passes(SFTConfig))]
    """TRL's SFTConfig. Rows longer than its max_length are left out, never cut: a cut answer has no end."""


def examples(rows: list[Row], data: Path, tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> list[Row]:
    """Rows as tokens: input_ids and labels [length], -100 where nothing is learned; through the mask gate."""
    encoded = [encode(tokenizer, conversation(row, f"{data}: row {number}")) for number, row in enumerate(rows, 1)]
    kept = [(ids, mask) for ids, mask in encoded if max_length is None or len(ids) <= max_length]
    if not kept:
        raise Refused(f"{data}: none of {len(rows)} rows fits trainer.max_length {max_length}")
    mask_gate([ids for ids, _ in kept], [mask for _, mask in kept], tokenizer.eos_token_id)
    return [
        {"input_ids": ids, "labels": [token if learned else -100 for token, learned in zip(ids, mask, strict=True)]}
        for ids, mask in kept
    ]


def samples(learned: list[Row], tokenizer: PreTrainedTokenizerBase, count: int = 5) -> str:
    """The first rows as the trainer sees them, for reading."""
    texts = [
        mask_sample(tokenizer, row["input_ids"], [int(label != -100) for label in row["labels"]])
        for row in learned[:count]
    ]
    return "What is learned stands between ⟦ and ⟧.\n\n" + "\n\n----\n\n".join(texts) + "\n"


def main(
    params: Params, parent: Path, base: Path, data: Path, output: Path, masks: Path, metrics: Path, curve: Path
) -> None:
    rows = read_rows(data)
    with trainer_arguments(params.trainer) as arguments:
        config = build(SFTConfig, arguments, dataset_kwargs={"skip_prepare_dataset": True})
        climbed = climb(parent, base, params.lora, seed=config.seed)
        learned = examples(rows, data, climbed.start.tokenizer, config.max_length)
        write_text(masks, samples(learned, climbed.start.tokenizer))
        trainer = SFTTrainer(
            climbed.start.model,
            args=config,
            train_dataset=Dataset.from_list(learned),
            processing_class=climbed.start.tokenizer,
        )
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
            measured={"rows": len(learned), "too_long": len(rows) - len(learned)},
            endings={"loss": "loss", "token_accuracy": "mean_token_accuracy"},
        )


if __name__ == "__main__":
    run(main, named=True)
