"""Group relative policy optimization: raise the answers that are better than their prompt's others.

A_i = (r_i - mean(r_1..r_G)) / std(r_1..r_G) for G answers to one prompt, and for every token t of answer i, with
rho = pi(y_t) / pi_old(y_t):

L = -min(rho A_i, clip(rho, 1 - epsilon, 1 + epsilon) A_i) + beta KL(pi || pi_ref)    (Shao et al. 2024, eq. 3)

trainer.loss_type says how tokens are averaged: `grpo` over each answer first, as there; `dapo`, TRL's default, over
all tokens (Yu et al. 2025); `dr_grpo` over a constant (Liu et al. 2025), with scale_rewards `none`.

python -m stages.grpo words models/sft/words models/base data/problems/practice.jsonl models/base models/grpo/words \
    data/grpo/words.samples.jsonl metrics/grpo/words.json plots/grpo/words.tsv
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator
from trl import GRPOConfig, GRPOTrainer

from ladder.chat.context_length import report
from ladder.data.jsonl import write_rows
from ladder.models.checkpoint import rung_name
from ladder.models.config_passthrough import adapter_check, passes
from ladder.pipeline.stage import Config, run
from ladder.training.model_setup import climb
from ladder.training.rewards import load_asked, named
from ladder.training.train import fit_and_save, trainer_arguments
from ladder.training.trl_rollouts import Rollouts, configured, fitting, prompts, resume_every, reward_functions, start


class Params(Config):
    parent: str
    """The rung it starts from, and its reference where beta is above 0: `sft/words`."""
    data: str
    """Prompts with what the rewards read: `problems/practice`."""
    split: str | None
    """Which of the prompts: `train`, or null for all."""
    lora: Annotated[Any, BeforeValidator(adapter_check)]
    """peft's LoraConfig, `continue` for the parent's adapter, or null to train all weights."""
    rewards: Annotated[list[dict[str, Any]], BeforeValidator(named)]
    """What an answer is worth: functions of ladder/training/rewards.py, each with its weight in the sum."""
    reward_model: str
    """The rung that the reward `model` asks: `reward/words`; `base` where no reward asks a model."""
    trainer: Annotated[dict[str, Any], AfterValidator(passes(GRPOConfig))]
    """TRL's GRPOConfig: num_generations, beta, loss_type, scale_rewards, use_vllm and the rest."""


class SlotTrainer(Rollouts, GRPOTrainer):
    """TRL's trainer on answers of our slots; with use_vllm on vLLM's."""

    def _generate_single_turn(self, prompt_ids: list[list[int]], *rest: Any) -> Any:
        if self.use_vllm:
            self.vllm_generation.generation_kwargs["seed"] = self.seed()
            return super()._generate_single_turn(prompt_ids, *rest)
        return self.answers(prompt_ids), None


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
    with trainer_arguments(params.trainer) as arguments:
        config = configured(GRPOConfig, arguments, params.rewards)
        rows = prompts(data, params.split, params.rewards)
        climbed = climb(parent, base, params.lora, seed=config.seed, router=config.router_aux_loss_coef)
        dataset = fitting(rows, data, climbed.start, config.max_completion_length)
        asked, parents = load_asked(params.rewards, reward_model, base, climbed.parent)
        trainer = SlotTrainer(
            climbed.start.model,
            reward_funcs=reward_functions(params.rewards, climbed.start, asked),
            args=config,
            train_dataset=dataset,
            processing_class=climbed.start.tokenizer,
        )
        start(trainer, climbed)
        fit_and_save(
            trainer,
            climbed,
            rung=rung_name(output),
            method="grpo",
            settings=params.model_dump(),
            parents=parents,
            output=output,
            metrics=metrics,
            curve=curve,
            measured={"prompts": len(dataset), **report("grpo", too_long=len(rows) - len(dataset))},
            endings={
                "reward": "reward",
                "entropy": "entropy",
                "cut": "completions/clipped_ratio",
                **({"kl": "kl"} if config.beta else {}),
            },
            resume_every=resume_every(config),
        )
        if trainer.is_world_process_zero():
            write_rows(samples, trainer.samples)


if __name__ == "__main__":
    run(main, named=True, launch=True)
