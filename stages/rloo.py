"""REINFORCE leave-one-out: raise the answers that are better than the mean of their prompt's others.

A_i = r_i - mean(r_j, j != i) for G answers to one prompt, where r has the penalty -beta log(pi / pi_ref) of the whole
answer in it, and with rho = pi(y) / pi_old(y) of the whole answer:

L = -min(rho A_i, clip(rho, 1 - epsilon, 1 + epsilon) A_i), whose gradient is that of REINFORCE while pi is pi_old
(Ahmadian et al. 2024, after Kool et al. 2019)

python -m stages.rloo words models/sft/words models/base data/problems/practice.jsonl models/base models/rloo/words \
    data/rloo/words.samples.jsonl metrics/rloo/words.json plots/rloo/words.tsv
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator
from trl import RLOOConfig, RLOOTrainer

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
    trainer: Annotated[dict[str, Any], AfterValidator(passes(RLOOConfig))]
    """TRL's RLOOConfig: num_generations, beta, normalize_advantages, use_vllm and the rest."""


class SlotTrainer(Rollouts, RLOOTrainer):
    """TRL's trainer on answers of our slots; with use_vllm on vLLM's."""

    def _generate_single_turn(self, prompt_ids: list[list[int]], *rest: Any) -> Any:
        if self.use_vllm:
            self.vllm_generation.generation_kwargs["seed"] = self.seed()
            return super()._generate_single_turn(prompt_ids, *rest)
        return self.answers(prompt_ids)


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
        config = configured(RLOOConfig, arguments, params.rewards)
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
            method="rloo",
            settings=params.model_dump(),
            parents=parents,
            output=output,
            metrics=metrics,
            curve=curve,
            measured={"prompts": len(dataset), **report("rloo", too_long=len(rows) - len(dataset))},
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
