"""Simple preference optimization (SimPO): reference-free, with length-normalized rewards and a target margin.

L = -log sigma(beta / |y_w| * log pi(y_w|x) - beta / |y_l| * log pi(y_l|x) - gamma)
(Meng et al. 2024, eq. 6; no reference model)

python -m stages.simpo words models/sft/words models/base data/preferences/words.jsonl models/simpo/words \
    metrics/simpo/words.json plots/simpo/words.tsv
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
    """Rung to start from: `sft/words`."""
    data: str
    """Preference pairs: `preferences/words`."""
    lora: Annotated[Any, BeforeValidator(adapter_check)]
    """peft's LoraConfig, `continue` for the parent's adapter, or null to train all weights."""
    beta: Annotated[float, Field(gt=0)]
    """Scale of the mean log-probabilities: 2.0 to 2.5 in the paper. DPO's beta scales sums and is about 20x smaller."""
    gamma: Annotated[float, Field(ge=0)]
    """Target margin, in the unit of the rewards: 0.3 to 1.6 in the paper; TRL's simpo_gamma."""
    max_length: int | None
    """Maximum length in tokens; longer pairs are left out, never truncated."""
    trainer: Annotated[dict[str, Any], AfterValidator(passes(TrainingArguments, "pairs"))]
    """transformers' TrainingArguments."""


def simpo_loss(
    chosen: torch.Tensor, rejected: torch.Tensor, *, beta: float, gamma: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the loss (Meng et al. 2024, eq. 6) and the rewards of eq. 4; inputs and outputs are [pairs].

    The inputs are mean log-probabilities per token.
    """
    return -logsigmoid(beta * (chosen - rejected) - gamma), beta * chosen, beta * rejected


def main(params: Params, parent: Path, base: Path, data: Path, output: Path, metrics: Path, curve: Path) -> None:
    """Train the parent on the pairs of `data` and save the rung to `output`.

    metrics: JSON with costs, counts and final values. curve: TSV with one line per logged step.
    """
    loss = partial(simpo_loss, beta=params.beta, gamma=params.gamma)
    fit_pairs(loss, "simpo", params.model_dump(), params.validation, parent, base, data, output, metrics, curve)


if __name__ == "__main__":
    run(main, named=True, launch=True)
