"""Rollouts for TRL's online trainers, with the ladder's prompt rendering, inference engine and rewards.

TRL's GRPOTrainer and RLOOTrainer get the prompts and answers of a step from `_tokenize_prompts` and
`_generate_single_turn`. The mixin `Rollouts`, placed before one of them in a class's bases, replaces the first. The
trainers of stages/grpo.py and stages/rloo.py replace the second, with `Rollouts.answers`. With engine vllm TRL
generates, and `take_engine` makes its engine sample, stop and receive the policy's weights as the ladder's engine does.
The loss covers the answer's tokens up to and including its stop token, and all tokens of a truncated answer.
"""

import importlib.util
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from datasets import Dataset
from peft import PeftModel
from pydantic import Field, model_validator
from transformers import PreTrainedModel, TrainerCallback
from transformers.integrations import is_deepspeed_zero3_enabled
from trl import GRPOConfig, RLOOConfig

from ladder.chat.context_length import fitting_prompts
from ladder.chat.encode import Messages, prompt_tokens
from ladder.data.jsonl import Row
from ladder.inference.local import LocalEngine
from ladder.inference.sampling import scramble
from ladder.inference.types import LocalName, Sampling
from ladder.models.checkpoint import Model
from ladder.models.config_passthrough import build
from ladder.pipeline.stage import Config, UserError
from ladder.training.group_redraw import Group, other_prompts, redraw
from ladder.training.model_setup import TrainingSetup
from ladder.training.rewards import Spec, rewarded, total, weights
from ladder.training.rollout_buffer import weighted_sums
from ladder.training.trl_vllm import take_engine

C = TypeVar("C", GRPOConfig, RLOOConfig)
TrlEngine = Literal["auto", "decoder", "padded", "vllm"]
Reward = str | PreTrainedModel | Callable[..., list[float | None]]  # TRL's type; the ladder passes functions only

SAMPLE_STEPS, SAMPLE_GROUPS = 10, 2  # every 10 steps the first two groups are saved for inspection
# The policy is the model's softmax at `temperature`. For other samples its gradient and importance ratio are wrong.
WHOLE = {"top_p": 1.0, "top_k": 0, "min_p": None, "repetition_penalty": 1.0, "generation_kwargs": None,
         "vllm_structured_outputs_regex": None}  # fmt: skip


class RolloutEngine(Config):
    """Engine key of a section that trains with TRL's rollouts."""

    engine: TrlEngine = Field(default="auto", exclude_if=lambda engine: engine == "auto")
    """Inference engine of the rollouts: `auto`, `decoder`, `padded` (ladder/inference/engines.py), or `vllm`, which TRL
    runs (`trainer.vllm_mode` and the other vllm_ keys) and which needs CUDA."""

    @model_validator(mode="before")
    @classmethod
    def _set_use_vllm(cls, section: Any) -> Any:
        """Set TRL's use_vllm by `engine`, the one key that chooses an engine in every section."""
        if not isinstance(section, dict) or not isinstance(trainer := section.get("trainer"), dict):
            return section
        if "use_vllm" in trainer:
            raise ValueError("trainer.use_vllm: set by `engine`; expected no such key. Write engine: vllm instead")
        return {**section, "trainer": {**trainer, "use_vllm": True}} if section.get("engine") == "vllm" else section


def configured(owner: type[C], arguments: dict[str, Any], specs: list[Spec]) -> C:
    """Build TRL's configuration, with the rewards' weights.

    Errors: UserError for values that TRL refuses, and for weights set in two places. Also for sampling from another
    distribution than the trained one, for an inference engine other than the ladder's or vLLM, and for vLLM without its
    package or a CUDA GPU.
    """
    if "reward_weights" in arguments:
        raise UserError("trainer.reward_weights: not supported. Set the weight of each reward in `rewards`.")
    config = build(owner, arguments, reward_weights=weights(specs))
    for name, plain in WHOLE.items():
        if getattr(config, name) != plain:
            raise UserError(
                f"trainer.{name}: expected {plain}, got {getattr(config, name)!r}: truncated sampling is not the "
                "policy's own distribution, and its gradient and importance ratio would be wrong"
            )
    if config.temperature <= 0:
        raise UserError(f"trainer.temperature: expected more than 0, got {config.temperature}: answers must differ")
    if config.use_transformers_continuous_batching or config.cache_implementation:
        raise UserError(
            "trainer: expected answers from the ladder's decoder or, with engine: vllm, from vLLM; no other engine"
        )
    if config.use_vllm and importlib.util.find_spec("vllm") is None:
        raise UserError("engine: vllm: vLLM is not installed. `make extra-gpu` installs it, or set engine: auto.")
    if config.use_vllm and not torch.cuda.is_available():
        raise UserError(
            "engine: vllm: needs CUDA to update the policy's weights: on a CPU, vLLM packs weights when it loads them "
            "(colocate), and a server receives them over NCCL. Set engine: auto."
        )
    return config


def prompts(data: Path, split: str | None, specs: list[Spec]) -> Dataset:
    """Dataset of a split's prompts for TRL: `prompt`, and the whole `row` as JSON.

    JSON keeps the structure of the row's checks, which columns of a table would change. Errors: UserError as
    `rewarded`.
    """
    rows = rewarded(data, split, specs)
    return Dataset.from_list([{"prompt": row["prompt"], "row": json.dumps(row)} for row in rows])


def fitting(dataset: Dataset, data: Path, policy: Model, answer: int | None) -> Dataset:
    """Keep prompts that leave room for `answer` tokens in the policy's context. Errors: UserError when none is left."""
    lengths = [len(prompt_tokens(policy.tokenizer, prompt)) for prompt in dataset["prompt"]]
    kept = fitting_prompts(lengths, answer or 0, data, policy.model)
    return dataset if len(kept) == len(dataset) else dataset.select(kept)


def reward_functions(specs: list[Spec], policy: Model, reward_model: Model | None) -> list[Reward]:
    """One function with TRL's signature per reward, with the reward's name. It logs its share of None as `missing`."""
    return [_reward_function(spec, policy.stop, reward_model) for spec in specs]


def _reward_function(spec: Spec, stop: int, reward_model: Model | None) -> Callable[..., list[float | None]]:
    name = next(iter(spec))

    def reward(
        completions: list[Messages], completion_ids: list[list[int]], row: list[str], log_metric: Any, **_: Any
    ) -> list[float | None]:
        texts = [completion[0]["content"].strip() for completion in completions]
        finished = [ids[-1] == stop for ids in completion_ids]
        values = total([spec], [json.loads(text) for text in row], texts, finished, reward_model)[name]
        log_metric(f"rewards/{name}/missing", values.count(None) / len(values))
        return values

    reward.__name__ = name
    return reward


def resume_every(config: GRPOConfig | RLOOConfig) -> int:
    """Smallest number of optimizer steps after which no rollout is partly used."""
    steps: Any = config.steps_per_generation  # a number, once TRL's config is built
    generation = steps * config.num_iterations
    accumulation = config.gradient_accumulation_steps
    return math.lcm(generation, accumulation) // accumulation


def generation_seed(seed: int, *counts: int) -> int:
    """Seed of one generation, from its step, its number within the step, and the process."""
    seed = scramble((seed + 0x9E3779B9) & 0xFFFFFFFF)  # otherwise seed 1 at step 0 would equal seed 0 at step 1
    for count in counts:
        seed = scramble(seed ^ count)
    return seed


class WithoutReference(TrainerCallback):
    """Delete TRL's frozen copy of the adapter after training, because it is not part of the rung."""

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **rest: Any) -> None:
        if "ref" in getattr(model, "peft_config", {}):
            model.delete_adapter("ref")


@dataclass(frozen=True)
class DynamicSampling:
    """Settings of ladder/training/group_redraw.py, and where its counts go."""

    rounds: int
    specs: list[Spec]
    reward_model: Model | None
    measured: dict[str, float]
    """Metrics of the rung: receives the numbers of groups, of groups with equal rewards, and of replaced groups."""


class Rollouts:
    """Mixin before TRL's GRPOTrainer or RLOOTrainer: generates answers with ladder/inference/local.py."""

    rollout_engine: LocalName = "auto"

    args: Any
    state: Any
    accelerator: Any
    generation: tuple[int, int] = (-1, 0)
    """Step of the last generation, and its number within that step."""
    draw = 0
    """Number of the draw within this generation: 0, then one for each round of `redraw`."""
    dynamic: "DynamicSampling | None" = None
    ready: list[list[int]] | None = None
    """Answers that were drawn before TRL asks for them."""

    def _tokenize_prompts(self, prompts: list[Messages]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [prompt_tokens(self.processing_class, prompt) for prompt in prompts], None, {}  # type: ignore[attr-defined]

    def seed(self) -> int:
        """Seed of this generation on this process. Processes that share one vLLM engine use the same seed."""
        together = self.args.vllm_tensor_parallel_size if self.args.use_vllm else 1
        round_of_redraw = (self.draw,) if self.draw else ()
        return generation_seed(
            self.args.seed, *self.generation, self.accelerator.process_index // together, *round_of_redraw
        )

    def answers(self, prompt_ids: list[list[int]]) -> list[list[int]]:
        """Sample an answer to each prompt, both [prompts][length]. Calls draw new samples; a resume repeats them."""
        if self.ready is not None:
            ready, self.ready = self.ready, None
            return ready
        sampling = Sampling(self.args.temperature, 1.0, self.args.max_completion_length, self.seed())
        model: Any = self.accelerator.unwrap_model(self.model_wrapped)  # type: ignore[attr-defined]
        stop = self.processing_class.eos_token_id  # type: ignore[attr-defined]
        completions = LocalEngine(model, self.processing_class, self.rollout_engine).complete(prompt_ids, sampling)  # type: ignore[attr-defined]
        return [item.tokens + [stop] * item.finished for item in completions]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        step, number = self.generation
        self.generation = (self.state.global_step, number + 1 if step == self.state.global_step else 0)
        if self.dynamic and self.model.training:  # type: ignore[attr-defined]
            inputs = self._varied(inputs, self.dynamic)
        scored = super()._generate_and_score_completions(inputs)  # type: ignore[misc]
        if self.state.global_step % SAMPLE_STEPS == 0 and self.generation[1] == 0:
            kept = self.state.stateful_callbacks.setdefault("rollouts", [])
            kept.extend(map(json.dumps, self._sampled(scored["completion_mask"].sum(1).tolist())))
        return scored

    def _varied(self, inputs: list[dict[str, Any]], dynamic: "DynamicSampling") -> list[dict[str, Any]]:
        """Return the rows of the groups that `redraw` keeps; TRL then gets their answers from `answers`."""
        self.draw = 0
        first = self._groups(inputs, dynamic)
        rows: Any = self.train_dataset  # type: ignore[attr-defined]
        used = {group.inputs[0]["row"] for group in first}
        known = {index for index, text in enumerate(rows["row"]) if text in used}
        others = other_prompts(len(rows), known, self.seed())

        def sample(more: list[dict[str, Any]]) -> list[Group]:
            self.draw += 1
            return self._groups(more, dynamic)

        found = redraw(first, dynamic.rounds, others, rows.__getitem__, sample)
        counts = {"groups": len(first), "groups_equal": found.equal, "groups_replaced": found.replaced}
        counts["groups_drawn"] = len(first) + found.drawn
        kept: dict[str, int] = self.state.stateful_callbacks.setdefault("redraw", {})
        for name, count in counts.items():
            kept[name] = kept.get(name, 0) + count
            dynamic.measured[name] = kept[name]
        self.draw = 0
        self.ready = [answer for group in found.groups for answer in group.answers]
        return [row for group in found.groups for row in group.inputs]

    def _groups(self, rows: list[dict[str, Any]], dynamic: "DynamicSampling") -> list[Group]:
        """Answer the rows, one answer each, and reward the answers; rows of one prompt are consecutive."""
        ids = self.answers(self._tokenize_prompts([row["prompt"] for row in rows])[0])
        tokenizer: Any = self.processing_class  # type: ignore[attr-defined]
        texts = [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
        finished = [answer[-1] == tokenizer.eos_token_id for answer in ids]
        parts = total(dynamic.specs, [json.loads(row["row"]) for row in rows], texts, finished, dynamic.reward_model)
        rewards = weighted_sums(list(parts.values()), weights(dynamic.specs))
        size = self.args.num_generations
        places = [slice(at, at + size) for at in range(0, len(rows), size)]
        return [Group(rows[place], ids[place], rewards[place]) for place in places]

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]
        policy = model or self.model  # type: ignore[attr-defined]
        if "ref" in getattr(policy, "peft_config", {}):
            # From a checkpoint with two adapters, transformers loads those in subfolders, not the trained one beside
            # them.
            policy.load_adapter(resume_from_checkpoint, "default", is_trainable=True)

    @property
    def samples(self) -> list[Row]:
        """Rollouts saved for inspection; `tokens` counts the trained tokens.

        They are part of the trainer's state, so a resume restores them. The state holds JSON text, because transformers
        sorts the keys of the objects that it saves.
        """
        return [json.loads(text) for text in self.state.stateful_callbacks.get("rollouts", [])]

    def _sampled(self, tokens: list[int]) -> Iterator[Row]:
        logs: Any = self._logs  # type: ignore[attr-defined]
        for index in range(min(SAMPLE_GROUPS * self.args.num_generations, len(tokens))):
            yield {
                "step": self.state.global_step,
                "prompt": logs["prompt"][index],
                "completion": logs["completion"][index],
                "tokens": tokens[index],
                "rewards": {name: written(values[index]) for name, values in logs["rewards"].items()},
                "advantage": written(logs["advantages"][index]),
            }


def written(value: float) -> float | None:
    """Round a float32 value for output; None for NaN, which means no verdict."""
    return None if math.isnan(value) else round(value, 6)


def start(trainer: Any, climbed: TrainingSetup, engine: TrlEngine, dynamic: DynamicSampling) -> None:
    """Prepare TRL's trainer: check readable weights, set the parent as the reference, set up engine and redraws.

    Errors: UserError for sharded weights without vLLM, for an adapter on sharded weights, and for redraws with vLLM or
    of groups that are split between processes.
    """
    if dynamic.rounds:
        if trainer.use_vllm:
            raise UserError("redraw: expected 0 with engine: vllm, because it draws new groups itself")
        batch = trainer.args.per_device_train_batch_size * trainer.args.steps_per_generation
        if batch % trainer.args.num_generations:
            raise UserError(
                f"redraw: a process generates {batch} answers; expected a multiple of trainer.num_generations "
                f"{trainer.args.num_generations}, so that no group is split. Set redraw: 0 or a larger batch."
            )
        trainer.dynamic = dynamic
    cut = trainer.is_fsdp_enabled or is_deepspeed_zero3_enabled()
    if cut and not trainer.use_vllm:
        raise UserError("sharded weights cannot answer in this process. Launch with DDP, or set engine: vllm.")
    if cut and isinstance(climbed.start.model, PeftModel):
        raise UserError("engine: vllm: an adapter on sharded weights. Launch with DDP, or set lora: null.")
    if trainer.ref_model is not None and climbed.parent.kind == "adapter":
        # TRL loads the reference from the model's source path, which for an adapter parent is the base without the
        # adapter.
        trainer.ref_model.load_state_dict(climbed.start.model.state_dict())
    trainer.add_callback(WithoutReference)
    if engine == "vllm":
        take_engine(trainer)
    else:
        trainer.rollout_engine = engine
