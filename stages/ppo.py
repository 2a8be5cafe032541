"""Reinforcement learning from rewards by proximal policy optimization, with a critic and a price on leaving the parent.

L = -E[min(rho_t A_t, clip(rho_t, 1 - eps, 1 + eps) A_t)] + c * L_value,   rho_t = pi(a_t|s_t) / pi_old(a_t|s_t)
(Schulman et al. 2017, eq. 7 and 9), A_t by GAE (Schulman et al. 2016, eq. 16) of the rewards
r_t = -beta * KL_t(pi_old || pi_parent), and the answer's score at its last token (Ouyang et al. 2022, eq. 2)

python -m stages.ppo chat models/sft/chat models/base data/prompts.jsonl models/reward/chat models/ppo/chat \
    data/ppo/chat.samples.jsonl metrics/ppo/chat.json plots/ppo/chat.tsv
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator
from transformers import TrainingArguments

from ladder.actor_critic import ActorCritic, ActorCriticTrainer
from ladder.arguments import adapter_check, build, passes
from ladder.chat import prompt_tokens
from ladder.climbing import climb
from ladder.launch import rank
from ladder.models import check_same_tokenizer, load_reward, rung_name
from ladder.rewards import check_rows, needs_model
from ladder.rows import Row, read_rows, write_rows
from ladder.run import Refused, run
from ladder.training import fit_and_save, trainer_arguments


class Params(ActorCritic):
    parent: str
    """The rung it starts from, and the reference that its KL is measured from: `sft/chat`."""
    data: str
    """The prompts, with what their rewards read: `prompts`, `problems/train`."""
    split: str | None
    """Which of the prompts; null for all."""
    reward_model: str
    """The rung that the reward `model` asks: `reward/chat`; `base` where no reward asks for one."""
    lora: Annotated[Any, BeforeValidator(adapter_check)]
    """peft's LoraConfig, `continue` for the parent's adapter, or null to train all weights. No dropout, whatever it
    says: the ratio of new to old probabilities would be noise."""
    trainer: Annotated[dict[str, Any], AfterValidator(passes(TrainingArguments))]
    """transformers' TrainingArguments. A batch is one minibatch of answers; an epoch rolls out every prompt once."""


def prompts(params: Params, data: Path) -> list[Row]:
    """The split's rows. Errors: Refused when there is none, or when one lacks what a reward reads."""
    rows = [row for row in read_rows(data) if params.split is None or row.get("split") == params.split]
    if not rows:
        raise Refused(f"{data}: no prompt of split {params.split!r}")
    check_rows(params.rewards, rows, str(data))
    return rows


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
    rows = prompts(params, data)
    with trainer_arguments(params.trainer) as arguments:
        # The critic is read beside the policy's forward pass, where DDP would take it for unused.
        config = build(TrainingArguments, arguments, ddp_find_unused_parameters=False)
        climbed = climb(parent, base, params.lora, seed=config.seed)
        parents = {climbed.parent.rung: climbed.parent}
        judge = load_reward(reward_model, base) if needs_model(params.rewards) else None
        if judge is not None:
            check_same_tokenizer(climbed.parent, judge.rung)
            parents[judge.rung.rung] = judge.rung
        tokenizer = climbed.start.tokenizer
        trainer = ActorCriticTrainer(
            climbed.start,
            config,
            prompts=[{**row, "prompt_ids": prompt_tokens(tokenizer, row["prompt"])} for row in rows],
            settings=params,
            reward_model=judge,
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
            measured={"prompts": len(rows)},
            endings={name: name for name in ("reward", "kl", "entropy", "finished", "explained_variance")},
            resume_every=trainer.steps_per_rollout,
        )
        if rank() == 0:
            write_rows(samples, trainer.samples)


if __name__ == "__main__":
    run(main, named=True, launch=True)
