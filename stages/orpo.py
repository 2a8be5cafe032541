"""Odds ratio preference optimization: learn the chosen answer and raise its odds against the rejected one's, in one.

L = -log P(y_w|x) - beta * log sigma(log(odds(y_w|x) / odds(y_l|x))),  odds = P / (1 - P),
where log P(y|x) is the mean log-probability of the answer's tokens
(Hong et al. 2024, eq. 3, 4, 6 and 7; no reference model, and no SFT before it)

python -m stages.orpo words models/sft/words models/base data/preferences/words.jsonl models/orpo/words \
    metrics/orpo/words.json plots/orpo/words.tsv
"""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, BeforeValidator, Field
from torch.nn.functional import logsigmoid
from transformers import TrainingArguments

from ladder.models.config_passthrough import adapter_check, passes
from ladder.pipeline.stage import run
from ladder.training.pairwise_trainer import fit_pairs
from ladder.training.validation import Validated


class Params(Validated):
    parent: str
    """The rung it starts from: `base`, `sft/words`."""
    data: str
    """The pairs: `preferences/words`."""
    lora: Annotated[Any, BeforeValidator(adapter_check)]
    """peft's LoraConfig, `continue` for the parent's adapter, or null to train all weights."""
    beta: Annotated[float, Field(gt=0)]
    """Weight of the odds ratio against the likelihood: the paper's lambda, 0.1 there; TRL's beta."""
    max_length: int | None
    """Pairs with more tokens than this are left out, never cut."""
    trainer: Annotated[dict[str, Any], AfterValidator(passes(TrainingArguments, "pairs"))]
    """transformers' TrainingArguments."""


def log_odds(logps: torch.Tensor) -> torch.Tensor:
    """log(P / (1 - P)) from log P, any shape (Hong et al. 2024, eq. 4)."""
    # An answer that is certain has log P = 0 in float32 and infinite odds: it stays at the nearest number below.
    logps = logps.clamp(max=-torch.finfo(logps.dtype).eps)
    return logps - torch.log(-torch.expm1(logps))


def orpo_loss(
    chosen: torch.Tensor, rejected: torch.Tensor, *, beta: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hong et al. 2024, eq. 6, and both answers' log odds as rewards, from mean log-probabilities; all [pairs]."""
    chosen_odds, rejected_odds = log_odds(chosen), log_odds(rejected)
    return -chosen - beta * logsigmoid(chosen_odds - rejected_odds), chosen_odds, rejected_odds


def main(params: Params, parent: Path, base: Path, data: Path, output: Path, metrics: Path, curve: Path) -> None:
    loss = partial(orpo_loss, beta=params.beta)
    fit_pairs(loss, "orpo", params.model_dump(), params.validation, parent, base, data, output, metrics, curve)


if __name__ == "__main__":
    run(main, named=True, launch=True)
