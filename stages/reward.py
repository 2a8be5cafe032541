"""Reward model: a scalar score for an answer, trained on preference pairs and evaluated on held-out pairs.

L = -log sigma(r(x, y_w) - r(x, y_l))      (Bradley and Terry 1952; Ouyang et al. 2022, eq. 1)

python -m stages.reward words models/sft/words models/base data/preferences/words.jsonl \
    data/preferences/heldout.jsonl models/reward/words metrics/reward/words.json plots/reward/words.tsv \
    data/reward/words.json
"""

import copy
import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig
from pydantic import AfterValidator, BeforeValidator
from transformers import PreTrainedTokenizerBase, set_seed
from trl import RewardConfig, RewardTrainer

from ladder.calibration import accuracy, brier, expected_calibration_error
from ladder.chat.context_length import report, within
from ladder.chat.empty_answers import answered_pairs
from ladder.data.jsonl import Row, read_json, read_rows, write_json
from ladder.models.checkpoint import Model, load_complete, load_reward, read_rung, rung_name
from ladder.models.compute_dtype import compute_dtype
from ladder.models.config_passthrough import Adapter, adapter_check, build, passes
from ladder.models.heads import reading_pad, scoring
from ladder.models.lora_settings import adapted
from ladder.models.scoring import rewards
from ladder.pipeline.launch import rank
from ladder.pipeline.stage import UserError, run
from ladder.statistics import Array, wilson, won
from ladder.training.dry_run import rehearse_adapter
from ladder.training.model_setup import TrainingSetup
from ladder.training.pair_examples import all_pair_tokens, fitting
from ladder.training.train import fit_and_save, trainer_arguments
from ladder.training.validation import Validated, pair_prompt, split


class Params(Validated):
    parent: str
    """Rung whose weights it starts from, with a new scalar head of zeros: `sft/words`."""
    data: str
    """Training pairs: `preferences/words`."""
    heldout: str
    """Evaluation pairs with other prompts: `preferences/heldout`."""
    lora: Annotated[Any, BeforeValidator(adapter_check)]
    """peft's LoraConfig (the head is trained too), or null to train all weights."""
    trainer: Annotated[dict[str, Any], AfterValidator(passes(RewardConfig))]
    """TRL's RewardConfig: center_rewards_coefficient and the rest. Pairs longer than its max_length are left out."""


def start(parent: Path, base: Path, lora: Adapter, *, seed: int) -> TrainingSetup:
    """Load the parent with a scalar head; an adapter of the parent is merged into the weights first."""
    if lora == "continue":
        raise UserError("reward: lora: continue needs a parent with a reward head. Give lora: {r: 16} or null.")
    rung, ground, dtype = read_rung(parent), read_rung(base), compute_dtype(base)
    if lora is not None:
        rehearse_adapter(parent if rung.kind == "complete" else base, lora, task="SEQ_CLS", fused=False)
    set_seed(seed)
    whole = load_complete(parent, base, dtype=torch.float32 if lora is None else dtype)
    model = scoring(whole.model, whole.tokenizer)
    if lora is None:
        return TrainingSetup(Model(model.requires_grad_(True), whole.tokenizer, rung), rung, None, dtype=dtype)
    config = build(LoraConfig, {"target_modules": "all-linear", **copy.deepcopy(lora)}, task_type="SEQ_CLS")
    start = Model(adapted(model, config, fused=False), whole.tokenizer, rung)
    return TrainingSetup(start, rung, ground if rung.identity == ground.identity else None, dtype=dtype)


def evaluated(rows: list[Row], data: Path, tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> list[Row]:
    """Tokenize held-out pairs as whole conversations: id, and chosen_ids and rejected_ids, each [length]."""
    tokens = all_pair_tokens(tokenizer, rows, data)
    named = [{**pair, "id": str(row.get("id", n))} for n, (row, pair) in enumerate(zip(rows, tokens, strict=True))]
    kept = fitting(named, data, max_length)
    return [{"id": pair["id"], **each} for pair, each in zip(kept, conversations(kept), strict=True)]


def conversations(pairs: list[Row]) -> list[Row]:
    """Prepend the prompt to each answer: chosen_ids and rejected_ids, each [length]."""
    return [{name: pair["prompt_ids"] + pair[name] for name in ("chosen_ids", "rejected_ids")} for pair in pairs]


def reading_tokenizer(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Copy the tokenizer with a pad token that the head ignores: the trainer sets the model's pad token from it."""
    padding = copy.deepcopy(tokenizer)
    padding.pad_token = str(tokenizer.convert_ids_to_tokens(reading_pad(tokenizer)))
    return padding


def check_unseen(seen: list[Row], rows: list[Row], heldout: Path, data: Path) -> None:
    """Check that no evaluation prompt was trained on. Errors: UserError naming the row."""
    prompts = {json.dumps(row["prompt"]) for row in seen}
    for number, row in enumerate(rows, start=1):
        if json.dumps(row["prompt"]) in prompts:
            raise UserError(
                f"{heldout}: row {number}: its prompt is in {data}, which is trained on. Hold out other prompts."
            )


def reward_margins(model: Model, pairs: list[Row]) -> Array:
    """Return r_w - r_l of each pair [N]."""
    chosen, rejected = [pair["chosen_ids"] for pair in pairs], [pair["rejected_ids"] for pair in pairs]
    scores = np.array(rewards(model, chosen + rejected))
    return scores[: len(pairs)] - scores[len(pairs) :]


def quality(margins: Array, pairs: list[Row]) -> dict[str, float]:
    """Summarize how often the chosen answer has the higher reward, and how often it is the longer one.

    Accuracies are in percent, with Wilson's 95% interval; the margin is mean r_w - r_l.
    """
    chosen, rejected = [pair["chosen_ids"] for pair in pairs], [pair["rejected_ids"] for pair in pairs]
    longer = np.array([len(good) - len(bad) for good, bad in zip(chosen, rejected, strict=True)], dtype=float)
    low, high = wilson(round(accuracy(margins) * len(pairs)), len(pairs))
    return {
        "heldout_accuracy": round(100 * accuracy(margins), 2),
        "heldout_low": round(100 * low, 2),
        "heldout_high": round(100 * high, 2),
        "longer_wins_accuracy": round(100 * accuracy(longer), 2),
        "heldout_margin": round(float(margins.mean()), 4),
        "calibration_error": round(expected_calibration_error(margins), 4),
        "brier": round(brier(margins), 4),
        "heldout_pairs": len(pairs),
    }


def main(
    params: Params, parent: Path, base: Path, data: Path, heldout: Path,
    output: Path, metrics: Path, curve: Path, heldout_out: Path,
) -> None:  # fmt: skip
    """Train the reward model on `data`, measure it on `heldout`, and save the rung to `output`.

    metrics: JSON with the held-out accuracy, costs, counts and final values. curve: TSV with one line per logged step.
    heldout_out: JSON with the held-out accuracy, the outcome of each pair (`won`: its id, and 1, 0, or 1/2 for a tie)
    and the rung, which a claim reads: it has no costs.
    Errors: UserError when a held-out prompt was trained on.
    """
    rows, unseen = read_rows(data), read_rows(heldout)
    with trainer_arguments(params.trainer, compute_dtype(base)) as arguments:
        config = build(RewardConfig, arguments)
        climbed = start(parent, base, params.lora, seed=config.seed)
        tokenizer = climbed.start.tokenizer
        pairs = fitting(all_pair_tokens(tokenizer, rows, data), data, within(config.max_length, climbed.start.model))
        whole = answered_pairs(pairs, data, tokenizer)
        learned, held = split(whole, pair_prompt, params.validation)
        tested = evaluated(unseen, heldout, tokenizer, within(None, climbed.start.model))
        check_unseen(rows, unseen, heldout, data)
        trainer = RewardTrainer(
            climbed.start.model,
            args=config,
            train_dataset=Dataset.from_list(conversations(learned)),
            eval_dataset=Dataset.from_list(conversations(held.held_out)) if held.held_out else None,
            processing_class=reading_tokenizer(tokenizer),
        )
        fit_and_save(
            trainer,
            climbed,
            rung=rung_name(output),
            method="reward",
            settings=params.model_dump(),
            parents={climbed.parent.rung: climbed.parent},
            output=output,
            metrics=metrics,
            curve=curve,
            measured={
                "pairs": len(learned),
                "too_long": len(rows) - len(pairs),
                **report(
                    "reward",
                    empty_answers=len(pairs) - len(whole),
                    heldout_too_long=len(unseen) - len(tested),
                ),
                **held.counts,
            },
            endings={"loss": "loss", "accuracy": "accuracy", "margin": "margin"},
        )
        if rank() == 0:  # measure the saved model
            saved = load_reward(output, base)
            margins = reward_margins(saved, tested)
            measured = quality(margins, tested)
            write_json(metrics, {**measured, **read_json(metrics)})
            outcomes = [[pair["id"], float(share)] for pair, share in zip(tested, won(margins), strict=True)]
            write_json(heldout_out, {**measured, "won": outcomes, "made_by": {"rung": saved.rung.provenance}})


if __name__ == "__main__":
    run(main, named=True, launch=True)
