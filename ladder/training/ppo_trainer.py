"""PPO trainer: rollouts from ladder.inference.local, then several epochs of minibatches on them."""

import copy
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import torch
from accelerate.utils import DistributedType
from pydantic import Field
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments
from trl.trainer.utils import disable_dropout_in_model

from ladder.data.jsonl import Row
from ladder.inference.local import LocalEngine
from ladder.inference.types import Completion, Sampling
from ladder.models.checkpoint import Model
from ladder.models.heads import zero_score
from ladder.pipeline.stage import UserError
from ladder.training.ppo_losses import (
    Estimator,
    adapted,
    explained_variance,
    gae,
    kl_estimate,
    logps_and_entropy,
    masked_mean,
    policy_loss,
    token_rewards,
    value_loss,
    whiten,
)
from ladder.training.rollout_buffer import Rollouts, RolloutSampler, score

CRITIC = "critic.pt"
KEPT = 4  # answers per rollout that are saved for inspection


class ActorCritic(Rollouts):
    """Settings of PPO in addition to its starting point."""

    minibatches: Annotated[int, Field(gt=0)]
    """Minibatches per rollout, shared among processes.

    One rollout answers minibatches x per_device_train_batch_size prompts.
    """
    epochs: Annotated[int, Field(gt=0)]
    """Number of training passes over each rollout."""
    gamma: Annotated[float, Field(ge=0, le=1)]
    """Discount factor per token; 1 is usual for answers, whose score comes at the end."""
    gae_lambda: Annotated[float, Field(ge=0, le=1)]
    """Lambda of generalized advantage estimation: 0 relies on the critic only, 1 on the rewards only."""
    clip_range: Annotated[float, Field(gt=0)]
    """Clip range of the probability ratio between policy and rollout policy."""
    value_clip_range: Annotated[float, Field(gt=0)]
    """Clip range of the difference between a value and the rollout's value."""
    value_coefficient: Annotated[float, Field(ge=0)]
    """Weight of the critic's loss. Its gradient reaches the policy's layers, because the critic is a head on them."""
    value_learning_rate: Annotated[float, Field(gt=0)]
    """Learning rate of the critic's head. It starts from zeros and therefore needs a higher rate than the policy."""
    kl_coefficient: Annotated[float, Field(ge=0)]
    """KL penalty per nat of KL from the parent."""
    kl_estimator: Estimator
    """k1 or k3: see ladder/training/ppo_losses.py."""
    kl_target: Annotated[float, Field(gt=0)] | None
    """Target KL of an answer in nats, for an adaptive coefficient (Ziegler et al. 2019); null keeps it constant."""


class ActorCriticTrainer(Trainer):
    """transformers' Trainer with PPO's loss. `_prepare_inputs` generates rollouts and returns one minibatch per step.

    The critic is a linear head on the policy's last hidden state. It is a submodule of the policy only during training:
    it is optimized, clipped and synchronized with the policy, and no rung contains it. The reference policy is the
    initial values of the trained weights, swapped in temporarily. No second model is needed, with an adapter or with
    full weights.
    """

    def __init__(
        self,
        start: Model,
        config: TrainingArguments,
        *,
        prompts: list[Row],
        settings: ActorCritic,
        reward_model: Model | None,
    ) -> None:
        size = settings.minibatches * config.per_device_train_batch_size
        update = config.gradient_accumulation_steps * config.world_size
        if len(prompts) < size:
            raise UserError(
                f"expected at least {size} prompts for one rollout of {settings.minibatches} minibatches x "
                f"{config.per_device_train_batch_size}, got {len(prompts)}"
            )
        if settings.minibatches % update:
            raise UserError(
                f"minibatches: expected a multiple of the {update} that one update takes "
                f"({config.gradient_accumulation_steps} accumulated on each of {config.world_size} processes), "
                f"got {settings.minibatches}"
            )
        disable_dropout_in_model(start.model)
        self.batches_per_rollout = settings.minibatches
        self.share = settings.minibatches // config.world_size  # minibatches of this process in one rollout
        self.steps_per_rollout = settings.epochs * settings.minibatches // update
        self.rollout_sampler = RolloutSampler(len(prompts), size, settings.epochs * self.share, config.seed)
        super().__init__(start.model, config, train_dataset=prompts, data_collator=list)  # type: ignore[arg-type]
        if self.accelerator.distributed_type == DistributedType.FSDP:
            raise UserError(
                "LADDER_LAUNCH: PPO samples from unsharded weights, and FSDP shards them. Use launch/ddp.yaml."
            )
        self.model_accepts_loss_kwargs = False  # the loss is a mean, to be averaged over accumulated batches
        self.policy: Any = start.model
        self.start, self.settings, self.reward_model = start, settings, reward_model
        trained = [weight for weight in self.policy.parameters() if weight.requires_grad]
        self.frozen = [(weight, weight.detach().clone()) for weight in trained]
        # Full weights train in float32 and autocast casts them at each use. For sampling they are cast once.
        whole = config.bf16 and self.policy.dtype == torch.float32
        self.sampler = copy.deepcopy(self.policy).to(torch.bfloat16) if whole else self.policy
        self.critic = zero_score(self.policy.config).to(self.policy.device)
        self.kl_coefficient = settings.kl_coefficient
        self.minibatches: list[dict[str, Tensor]] = []
        self.handed_out = 0
        self.rolled_out: dict[str, float] = {}
        self.learned: dict[str, list[float]] = defaultdict(list)
        self.samples: list[Row] = []

    # Overrides of transformers' Trainer.

    def train(self, *arguments: Any, **keywords: Any) -> Any:
        self.policy.add_module("critic", self.critic)
        try:
            return super().train(*arguments, **keywords)
        finally:
            del self.policy.critic

    def get_train_dataloader(self) -> DataLoader:
        size = self.share * self.args.per_device_train_batch_size
        dataset: Any = self.train_dataset
        return self._get_dataloader(dataset, "Training", size, lambda _: self.rollout_sampler, True)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        self.critic.requires_grad_(False)
        optimizer = super().create_optimizer(model)
        self.critic.requires_grad_(True)
        optimizer.add_param_group(
            {"params": [self.critic.weight], "lr": self.settings.value_learning_rate, "weight_decay": 0.0}
        )
        return optimizer

    def _prepare_inputs(self, inputs: Any) -> dict[str, Tensor]:
        if self.handed_out % self.rollout_sampler.repeats == 0:
            self.roll_out(inputs)
        minibatch = self.minibatches[self.handed_out % self.share]
        self.handed_out += 1
        return minibatch

    def compute_loss(self, model: Any, inputs: dict[str, Tensor], *_: Any, **__: Any) -> Tensor:
        mask, old_logps, settings = inputs["mask"], inputs["logps"], self.settings
        logps, values, entropy = self.read(model, inputs["ids"], mask)
        policy, clipped = policy_loss(logps, old_logps, inputs["advantages"], mask, settings.clip_range)
        critic = value_loss(values, inputs["values"], inputs["returns"], mask, settings.value_clip_range)
        moved = masked_mean(kl_estimate(old_logps, logps.detach(), "k3"), mask)
        parts = {"policy_loss": policy, "value_loss": critic, "clip_fraction": clipped, "approximate_kl": moved}
        for name, value in {**parts, "entropy": masked_mean(entropy, mask)}.items():
            self.learned[name].append(value.item())
        return policy + settings.value_coefficient * critic

    def log(self, logs: dict[str, float], *rest: Any) -> None:
        if "loss" in logs:
            means = {**self.rolled_out, **{name: fmean(values) for name, values in self.learned.items()}}
            logs = {**logs, **dict(zip(means, self.everywhere(list(means.values())), strict=True))}
            self.learned.clear()
        super().log(logs, *rest)

    def everywhere(self, values: list[float]) -> list[float]:
        """Mean of each value over the processes."""
        return self.accelerator.reduce(torch.tensor(values, device=self.args.device), "mean").tolist()

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        state = {
            "weight": self.critic.weight.detach().cpu(),
            "kl_coefficient": self.kl_coefficient,
            "samples": self.samples,
        }
        torch.save(state, Path(output_dir or str(self.args.output_dir)) / CRITIC)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        state = torch.load(Path(resume_from_checkpoint) / CRITIC, weights_only=True)
        self.critic.weight.data.copy_(state["weight"])
        self.kl_coefficient, self.samples = state["kl_coefficient"], state["samples"]

    # PPO.

    def read(self, model: Any, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities (nats), values and entropies (nats) of the last tokens of `ids`, each shaped as `mask`.

        Padding is on the right, so causal attention alone keeps it from affecting other tokens.
        """
        hidden: list[Tensor] = []
        head = self.policy.get_output_embeddings()
        hook = head.register_forward_pre_hook(lambda _, inputs: hidden.append(inputs[0]))
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=mask.shape[1] + 1).logits
        hook.remove()
        logps, entropy = logps_and_entropy(logits[:, :-1].float() / self.settings.temperature, ids[:, -mask.shape[1] :])
        return logps, self.critic(hidden[0][:, :-1])[..., 0], entropy

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Context in which the policy has its initial weights, for reference log-probabilities."""
        now = [weight.data for weight, _ in self.frozen]
        for weight, first in self.frozen:
            weight.data = first
        try:
            yield
        finally:
            for (weight, _), data in zip(self.frozen, now, strict=True):
                weight.data = data

    def answer(self, prompts: list[list[int]]) -> list[Completion]:
        """Sample an answer to each prompt. The draws depend only on the seed, the step and the process."""
        if self.sampler is not self.policy:
            with torch.no_grad():
                for name, weight in self.sampler.named_parameters():
                    weight.copy_(self.policy.get_parameter(name))
        draw = self.state.global_step * self.args.world_size + self.args.process_index
        sampling = Sampling(
            temperature=self.settings.temperature,
            max_new_tokens=self.settings.max_new_tokens,
            seed=self.args.seed + 1_000_003 * draw,
        )
        self.sampler.eval()  # in training mode, gradient checkpointing disables the cache
        answers = LocalEngine(self.sampler, self.start.tokenizer, self.settings.engine).complete(prompts, sampling)
        self.policy.train()
        return answers

    def roll_out(self, rows: list[Row]) -> None:
        """Answer the prompts, score the answers, and split them into minibatches."""
        answers = self.answer([row["prompt_ids"] for row in rows])
        settings, size = self.settings, self.args.per_device_train_batch_size
        made = score(rows, answers, self.start, settings, self.reward_model)
        slices = [slice(at, at + size) for at in range(0, len(rows), size)]
        read = [self.minibatch(made.ids[part], made.scores[part]) for part in slices]
        self.minibatches = [minibatch for minibatch, _ in read]
        divergences = [nats for _, each in read for nats in each]
        values, returns = (
            torch.cat([minibatch[name][minibatch["mask"] > 0] for minibatch in self.minibatches])
            for name in ("values", "returns")
        )
        self.rolled_out = {
            **made.means(),
            "kl": fmean(divergences),
            "kl_coefficient": self.kl_coefficient,
            "explained_variance": explained_variance(values, returns),
        }
        step = self.state.global_step
        if step // self.steps_per_rollout % settings.samples_every == 0:
            self.samples += made.excerpt(KEPT, step, divergences)
        if settings.kl_target is not None:
            (kl,) = self.everywhere([fmean(divergences)])
            self.kl_coefficient = adapted(self.kl_coefficient, kl, settings.kl_target)

    @torch.no_grad()
    def minibatch(
        self, pairs: list[tuple[list[int], list[int]]], scores: list[float]
    ) -> tuple[dict[str, Tensor], list[float]]:
        """Build the tensors of a minibatch, and each answer's KL from the reference (nats, summed over its tokens).

        `ids` is [answers, prompt and answer]; mask, logps, values, returns and advantages are [answers, length].
        """
        device, settings = self.args.device, self.settings
        ids = pad_sequence([torch.tensor(prompt + answer) for prompt, answer in pairs], batch_first=True).to(device)
        place = torch.arange(min(len(prompt) for prompt, _ in pairs), ids.shape[1])
        inside = [(place >= len(prompt)) & (place < len(prompt) + len(answer)) for prompt, answer in pairs]
        mask = torch.stack(inside).float().to(device)
        logps, values, _ = self.read(self.model, ids, mask)
        with self.reference():
            reference_logps, _, _ = self.read(self.model, ids, mask)
        kl = kl_estimate(logps, reference_logps, settings.kl_estimator) * mask
        rewards = token_rewards(torch.tensor(scores, device=device), kl, mask, self.kl_coefficient)
        advantages = gae(rewards, values, mask, gamma=settings.gamma, lam=settings.gae_lambda)
        tensors = {
            "ids": ids,
            "mask": mask,
            "logps": logps,
            "values": values,
            "returns": advantages + values,
            "advantages": whiten(advantages, mask),
        }
        return tensors, kl.sum(1).tolist()
