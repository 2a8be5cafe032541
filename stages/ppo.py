"""Reinforcement learning from rewards by proximal policy optimization, with a critic and a price on leaving the parent.

L = -E[min(rho_t A_t, clip(rho_t, 1 - eps, 1 + eps) A_t)] + c * L_value,   rho_t = pi(a_t|s_t) / pi_old(a_t|s_t)
(Schulman et al. 2017, eq. 7 and 9), A_t by GAE (Schulman et al. 2016, eq. 16) of the rewards
r_t = -beta * KL_t(pi_old || pi_parent), and the answer's score at its last token (Ouyang et al. 2022, eq. 2)

python -m stages.ppo words models/sft/words models/base data/problems/practice.jsonl models/base models/ppo/words \
    data/ppo/words.samples.jsonl metrics/ppo/words.json plots/ppo/words.tsv
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator
from transformers import TrainingArguments

from ladder.chat.context_length import fitting_prompts, report
from ladder.chat.encode import prompt_tokens
from ladder.data.jsonl import write_rows
from ladder.models.checkpoint import rung_name
from ladder.models.config_passthrough import adapter_check, build, passes
from ladder.pipeline.launch import rank
from ladder.pipeline.stage import run
from ladder.training.model_setup import climb
from ladder.training.ppo_trainer import ActorCritic, ActorCriticTrainer
from ladder.training.rewards import load_asked, rewarded
from ladder.training.train import fit_and_save, trainer_arguments


class Params(ActorCritic):
    parent: str
    """The rung it starts from, and the reference that its KL is measured from: `sft/words`."""
    data: str
    """The prompts, with what their rewards read: `problems/practice`."""
    split: str | None
    """Which of the prompts; null for all."""
    reward_model: str
    """The rung that the reward `model` asks: `reward/words`; `base` where no reward asks a model."""
    lora: Annotated[Any, BeforeValidator(adapter_check)]
    """peft's LoraConfig, `continue` for the parent's adapter, or null to train all weights. No dropout, whatever it
    says: the ratio of new to old probabilities would be noise."""
    trainer: Annotated[dict[str, Any], AfterValidator(passes(TrainingArguments, "ppo"))]
    """transformers' TrainingArguments. A batch is one minibatch of answers; an epoch rolls out every prompt once."""


def main(
    params: Params,
    parent: Path,
    base: Path,
    data: Path,
    reward_model: Path,
    output: Path,
    samples: Path,
    metrics: Path,
    curve: Path,
) -> None:
    rows = rewarded(data, params.split, params.rewards)
    with trainer_arguments(params.trainer) as arguments:
        # The critic is read beside the policy's forward pass, where DDP would take it for unused.
        config = build(TrainingArguments, arguments, ddp_find_unused_parameters=False)
        climbed = climb(parent, base, params.lora, seed=config.seed, fused=False)
        asked, parents = load_asked(params.rewards, reward_model, base, climbed.parent)
        tokenizer = climbed.start.tokenizer
        asked_ids = [prompt_tokens(tokenizer, row["prompt"]) for row in rows]
        fitting = fitting_prompts([len(ids) for ids in asked_ids], params.max_new_tokens, data, climbed.start.model)
        trainer = ActorCriticTrainer(
            climbed.start,
            config,
            prompts=[{**rows[index], "prompt_ids": asked_ids[index]} for index in fitting],
            settings=params,
            reward_model=asked,
        )
        fit_and_save(
            trainer,
            climbed,
            rung=rung_name(output),
            method="ppo",
            settings=params.model_dump(),
            parents=parents,
            output=output,
            metrics=metrics,
            curve=curve,
            measured={"prompts": len(fitting), **report("ppo", too_long=len(rows) - len(fitting))},
            endings={name: name for name in ("reward", "kl", "entropy", "finished", "explained_variance")},
            resume_every=trainer.steps_per_rollout,
        )
        if rank() == 0:
            write_rows(samples, trainer.samples)


if __name__ == "__main__":
    run(main, named=True, launch=True)
