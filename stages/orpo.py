"""Odds ratio preference optimization (ORPO): SFT on the chosen answer plus an odds-ratio term against the rejected one.

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
    """Rung to start from: `base`, `sft/words`."""
    data: str
    """Preference pairs: `preferences/words`."""
    lora: Annotated[Any, BeforeValidator(adapter_check)]
    """peft's LoraConfig, `continue` for the parent's adapter, or null to train all weights."""
    beta: Annotated[float, Field(gt=0)]
    """Weight of the odds-ratio term, above 0: the paper's lambda (0.1 there), TRL's beta."""
    max_length: int | None
    """Maximum length in tokens; longer pairs are left out, never truncated."""
    trainer: Annotated[dict[str, Any], AfterValidator(passes(TrainingArguments, "pairs"))]
    """transformers' TrainingArguments."""


def log_odds(logps: torch.Tensor) -> torch.Tensor:
    """log(P / (1 - P)) from log P, any shape (Hong et al. 2024, eq. 4)."""
    # A certain answer has log P = 0 in float32 and infinite odds; clamp it to the nearest number below.
    logps = logps.clamp(max=-torch.finfo(logps.dtype).eps)
    return logps - torch.log(-torch.expm1(logps))


def orpo_loss(
    chosen: torch.Tensor, rejected: torch.Tensor, *, beta: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the loss (Hong et al. 2024, eq. 6) and both answers' log odds as rewards; inputs and outputs are [pairs].

    The inputs are mean log-probabilities per token.
    """
    chosen_odds, rejected_odds = log_odds(chosen), log_odds(rejected)
    return -chosen - beta * logsigmoid(chosen_odds - rejected_odds), chosen_odds, rejected_odds


def main(params: Params, parent: Path, base: Path, data: Path, output: Path, metrics: Path, curve: Path) -> None:
    """Train the parent on the pairs of `data` and save the rung to `output`.

    metrics: JSON with costs, counts and final values. curve: TSV with one line per logged step.
    """
    loss = partial(orpo_loss, beta=params.beta)
    fit_pairs(loss, "orpo", params.model_dump(), params.validation, parent, base, data, output, metrics, curve)


if __name__ == "__main__":
    run(main, named=True, launch=True)
