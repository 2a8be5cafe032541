"""Proximal policy optimization (PPO) with a critic and a KL penalty toward the parent.

L = -E[min(rho_t A_t, clip(rho_t, 1 - eps, 1 + eps) A_t)] + c * L_value,   rho_t = pi(a_t|s_t) / pi_old(a_t|s_t)
(Schulman et al. 2017, eq. 7 and 9)

A_t are GAE advantages (Schulman et al. 2016, eq. 16) of the per-token rewards r_t = -beta * KL_t(pi_old || pi_parent).
The answer's score is added at its last token (Ouyang et al. 2022, eq. 2).

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
from ladder.models.compute_dtype import compute_dtype
from ladder.models.config_passthrough import adapter_check, build, passes
from ladder.pipeline.launch import rank
from ladder.pipeline.stage import run
from ladder.training.model_setup import climb
from ladder.training.ppo_trainer import ActorCritic, ActorCriticTrainer
from ladder.training.rewards import load_asked, rewarded
from ladder.training.train import fit_and_save, trainer_arguments


class Params(ActorCritic):
    parent: str
    """Rung to start from, which is also the reference of the KL penalty: `sft/words`."""
    data: str
    """Prompts, with the fields that their rewards read: `problems/practice`."""
    split: str | None
    """Split of the prompts to use; null for all."""
    reward_model: str = "base"
    """Rung behind the reward `model`: `reward/words`. Leave it out when no reward asks a model."""
    lora: Annotated[Any, BeforeValidator(adapter_check)]
    """peft's LoraConfig, `continue` for the parent's adapter, or null to train all weights.

    Dropout is always off, whatever the config says: it would add noise to the ratio of new to old probabilities.
    """
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
    """Train the parent and a critic on the parent's own answers to the prompts of `data`; save the rung to `output`.

    samples: JSON Lines with some of the rollouts. metrics: JSON with costs, counts and final values. curve: TSV with
    one line per logged step.
    """
    rows = rewarded(data, params.split, params.rewards)
    with trainer_arguments(params.trainer, compute_dtype(base)) as arguments:
        # The critic runs outside the policy's forward pass, so DDP would treat it as unused.
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
