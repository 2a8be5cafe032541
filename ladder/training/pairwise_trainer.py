"""Reference-free preference training on pairs, with a loss of both answers' mean log-probabilities."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import Trainer, TrainingArguments
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.utils import add_fused_lm_head

from ladder.chat.context_length import report, within
from ladder.chat.empty_answers import answered_pairs
from ladder.data.jsonl import Row, read_rows
from ladder.models.checkpoint import Model, rung_name
from ladder.models.compute_dtype import compute_dtype
from ladder.models.config_passthrough import build
from ladder.training.model_setup import climb
from ladder.training.pair_examples import all_pair_tokens, fitting
from ladder.training.train import fit_and_save, trainer_arguments
from ladder.training.validation import Validation, pair_prompt, split

PairLoss = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
"""Map mean log-probabilities (nats per token) of chosen and rejected [pairs] to (loss, chosen, rejected reward)."""


class PairTrainer(Trainer):
    """transformers' Trainer with a PairLoss, on rows in DPO's format and with DPO's metric names.

    TRL's fused head computes the log-probabilities without the full logits in memory.
    """

    def __init__(
        self,
        start: Model,
        config: TrainingArguments,
        pairs: list[Row],
        loss: PairLoss,
        held_out: list[Row] | None = None,
    ) -> None:
        model: Any = start.model.get_base_model() if isinstance(start.model, PeftModel) else start.model
        add_fused_lm_head(model)
        super().__init__(
            start.model,
            config,
            train_dataset=Dataset.from_list(pairs),
            eval_dataset=Dataset.from_list(held_out) if held_out else None,
            data_collator=DataCollatorForPreference(pad_token_id=start.tokenizer.pad_token_id),
        )
        self.model_accepts_loss_kwargs = False  # the loss is a mean, to be averaged over accumulated batches
        self.pair_loss = loss
        self.logged: dict[str, list[float]] = defaultdict(list)
        self._total_train_tokens = 0  # TRL's name for it, so that a resume restores the count

    def compute_loss(self, model: Any, inputs: dict[str, torch.Tensor], *_: Any, **__: Any) -> torch.Tensor:
        ids, answers = inputs["input_ids"], inputs["completion_mask"]
        labels = ids.masked_fill(answers == 0, -100)
        outputs = model(input_ids=ids, attention_mask=inputs["attention_mask"], labels=labels, fused_lm_head=True)
        chosen, rejected = (outputs.log_probs.sum(dim=1) / answers.sum(dim=1)).chunk(2)
        loss, chosen_rewards, rejected_rewards = self.pair_loss(chosen, rejected)
        self._note("rewards/chosen", chosen_rewards)
        self._note("rewards/rejected", rejected_rewards)
        self._note("rewards/accuracies", (chosen_rewards > rejected_rewards).float())
        self._note("rewards/margins", chosen_rewards - rejected_rewards)
        self._note("logps/chosen", chosen)
        self._note("logps/rejected", rejected)
        if model.training:
            self._total_train_tokens += int(self.accelerator.gather(inputs["attention_mask"].sum()).sum().item())
        return loss.mean()

    def prediction_step(self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> Any:
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.compute_loss(model, self._prepare_inputs(inputs)).detach(), None, None

    def _note(self, name: str, values: torch.Tensor) -> None:
        prefix = "" if self.model.training else "eval_"  # type: ignore[union-attr]
        self.logged[prefix + name].append(self.accelerator.gather(values.detach()).mean().item())

    def log(self, logs: dict[str, float], *rest: Any) -> None:
        if "eval_loss" in logs:
            ours = [name for name in self.logged if name.startswith("eval_")]
            logs.update({name: fmean(self.logged.pop(name)) for name in ours})  # in place: evaluate returns them
        if "loss" in logs:
            means = {name: fmean(values) for name, values in self.logged.items()}
            logs = {**logs, **means, "num_tokens": self._total_train_tokens}
            self.logged.clear()
        super().log(logs, *rest)


def fit_pairs(
    loss: PairLoss,
    method: str,
    settings: dict[str, Any],
    validation: Validation | None,
    parent: Path,
    base: Path,
    data: Path,
    output: Path,
    metrics: Path,
    curve: Path,
) -> None:
    """Train the parent on the pairs in `data` and save the rung.

    `settings` is the stage's section of params.yaml, with lora, max_length and trainer.
    """
    rows = read_rows(data)
    with trainer_arguments(settings["trainer"], compute_dtype(base)) as arguments:
        config = build(TrainingArguments, arguments)
        climbed = climb(parent, base, settings["lora"], seed=config.seed)
        pairs = all_pair_tokens(climbed.start.tokenizer, rows, data)
        pairs = fitting(pairs, data, within(settings["max_length"], climbed.start.model))
        whole = answered_pairs(pairs, data, climbed.start.tokenizer)
        learned, held = split(whole, pair_prompt, validation)
        fit_and_save(
            PairTrainer(climbed.start, config, learned, loss, held.held_out),
            climbed,
            rung=rung_name(output),
            method=method,
            settings=settings,
            parents={climbed.parent.rung: climbed.parent},
            output=output,
            metrics=metrics,
            curve=curve,
            measured={
                "pairs": len(learned),
                "too_long": len(rows) - len(pairs),
                **report(method, empty_answers=len(pairs) - len(whole)),
                **held.counts,
            },
            endings={"loss": "loss", "accuracy": "rewards/accuracies", "margin": "rewards/margins"},
        )
