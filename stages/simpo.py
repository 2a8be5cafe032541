"""Simple preference optimization: raise the chosen answer's mean log-probability above the rejected one's by a margin.

L = -log sigma(beta / |y_w| * log pi(y_w|x) - beta / |y_l| * log pi(y_l|x) - gamma)
(Meng et al. 2024, eq. 6; no reference model)

python -m stages.simpo chat models/sft/chat models/base data/preferences/chat.jsonl models/simpo/chat \
    metrics/simpo/chat.json plots/simpo/chat.tsv
"""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, BeforeValidator, Field
from torch.nn.functional import logsigmoid
from transformers import TrainingArguments

from ladder.arguments import adapter_check, build, passes
from ladder.climbing import climb
from ladder.models import rung_name
from ladder.pairs import all_pair_tokens, fitting
from ladder.pairwise import PairTrainer
from ladder.rows import read_rows
from ladder.run import Section, run
from ladder.training import fit_and_save, trainer_arguments


class Params(Section):
    parent: str
    """The rung it starts from: `sft/chat`."""
    data: str
    """The pairs: `preferences/chat`."""
    lora: Annotated[Any, BeforeValidator(adapter_check)]
    """peft's LoraConfig, `continue` for the parent's adapter, or null to train all weights."""
    beta: Annotated[float, Field(gt=0)]
    """Scale of the mean log-probabilities: 2.0 to 2.5 in the paper, twenty times DPO's, whose are sums."""
    gamma: Annotated[float, Field(ge=0)]
    """The margin, in the unit of the rewards: 0.3 to 1.6 in the paper; TRL's simpo_gamma."""
    max_length: int | None
    """Pairs with more tokens than this are left out, never cut."""
    trainer: Annotated[dict[str, Any], AfterValidator(passes(TrainingArguments))]
    """transformers' TrainingArguments."""


def simpo_loss(
    chosen: torch.Tensor, rejected: torch.Tensor, *, beta: float, gamma: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Meng et al. 2024, eq. 6, and the rewards of eq. 4, from mean log-probabilities; all [pairs]."""
    return -logsigmoid(beta * (chosen - rejected) - gamma), beta * chosen, beta * rejected


def main(params: Params, parent: Path, base: Path, data: Path, output: Path, metrics: Path, curve: Path) -> None:
    rows = read_rows(data)
    with trainer_arguments({"bf16": True, **params.trainer}) as arguments:
        config = build(TrainingArguments, arguments)
        climbed = climb(parent, base, params.lora, seed=config.seed)
        learned = fitting(all_pair_tokens(climbed.start.tokenizer, rows, data), data, params.max_length)
        loss = partial(simpo_loss, beta=params.beta, gamma=params.gamma)
        trainer = PairTrainer(climbed.start, config, learned, loss)
        fit_and_save(
            trainer,
            climbed,
            rung=rung_name(output),
            method="simpo",
            settings=params.model_dump(),
            parents={climbed.parent.rung: climbed.parent},
            output=output,
            metrics=metrics,
            curve=curve,
            measured={"pairs": len(learned), "too_long": len(rows) - len(learned)},
            endings={"loss": "loss", "accuracy": "rewards/accuracies", "margin": "rewards/margins"},
        )


if __name__ == "__main__":
    run(main, named=True, launch=True)
