from math import sqrt
from statistics import fmean, variance

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors import safe_open

from conftest import assistant, user
from ladder.data.jsonl import read_rows, write_rows
from ladder.inference.local import engine_of
from ladder.inference.types import Sampling
from ladder.models.checkpoint import load, read_rung, save_rung
from ladder.pipeline.stage import UserError
from ladder.training import rollout_buffer
from ladder.training.ppo_trainer import ActorCriticTrainer
from ladder.training.rewards import total
from ladder.verifiers.constraints import meets
from perf.pico import pico_model, pico_tokenizer
from stages import ppo, reward

# partly met by every answer with an a: 1/6 for one, 2/6 for two
CHECKS = [{"kind": "letter_at_least", "letter": "a", "n": n} for n in range(1, 7)]
TRAINER = {
    "max_steps": 4,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "constant",
    "bf16": False,
}
PPO = {
    "parent": "base",
    "data": "prompts",
    "split": None,
    "reward_model": "base",
    "lora": {"r": 4},
    "rewards": [{"checks": {"weight": 1.0}}],
    "unfinished": None,
    "temperature": 1.0,
    "max_new_tokens": 12,
    "samples_every": 1,
    "minibatches": 2,
    "epochs": 2,
    "gamma": 1.0,
    "gae_lambda": 0.95,
    "clip_range": 0.2,
    "value_clip_range": 0.2,
    "value_coefficient": 0.1,
    "value_learning_rate": 1e-2,
    "kl_coefficient": 0.05,
    "kl_estimator": "k1",
    "kl_target": None,
}


def made(tmp_path, parent, base, *, judge=None, prompts=32, trainer=None, **changed):
    rows = [{"id": str(n), "split": "train", "prompt": user(f"Say {n}."), "checks": CHECKS} for n in range(prompts)]
    write_rows(tmp_path / "prompts.jsonl", rows)
    params = ppo.Params(**{**PPO, **changed, "trainer": {**TRAINER, **(trainer or {})}})
    inputs = [parent, base, tmp_path / "prompts.jsonl", judge or base]
    outputs = [tmp_path / "models/ppo/a", tmp_path / "a.samples.jsonl", tmp_path / "a.json", tmp_path / "a.tsv"]
    ppo.main(params, *inputs, *outputs)
    header, *points = (line.split("\t") for line in outputs[3].read_text().splitlines())
    return outputs, [dict(zip(header, map(float, point), strict=True)) for point in points]


def scores(directory, base):
    """Share of checks met by 128 answers, sampled with another seed than the training's."""
    sampling = Sampling(temperature=1.0, max_new_tokens=12, seed=99)
    said = engine_of(load(directory, base)).generate([user(f"Say {n}.") for n in range(128)], sampling)
    return [fmean(meets(each.text, CHECKS)) for each in said]


def test_the_reward_rises(tmp_path, base):
    steps = {"max_steps": 24, "per_device_train_batch_size": 32, "learning_rate": 1e-2}
    outputs, curve = made(tmp_path, base, base, lora=None, minibatches=1, trainer=steps, kl_coefficient=0.01)
    before, after = scores(base, base), scores(outputs[0], base)
    error = sqrt((variance(before) + variance(after)) / 128)
    assert fmean(after) - fmean(before) > 5 * error
    rung = read_rung(outputs[0])
    assert (rung.kind, rung.method, rung.head) == ("complete", "ppo", "language_model")


def adapter_on(base, directory):
    """An adapter rung that answers differently from the base."""
    loaded = load(base, base)
    torch.manual_seed(3)
    model = get_peft_model(loaded.model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    ground = read_rung(base)
    save_rung(directory, model, loaded.tokenizer, rung="sft/a", method="sft", parents={"base": ground}, base=ground)
    return directory


@pytest.mark.parametrize("lora", [{"r": 4}, "continue", None])
def test_the_kl_is_from_the_parent(tmp_path, base, lora):
    parent = adapter_on(base, tmp_path / "models/sft/a")
    steps = {"max_steps": 5, "learning_rate": 1e-2, "bf16": lora is None}
    outputs, curve = made(tmp_path, parent, base, lora=lora, trainer=steps)
    assert curve[0]["kl"] == 0
    assert curve[0]["approximate_kl"] == curve[0]["clip_fraction"] == 0  # the policy is the one that sampled
    assert curve[4]["kl"] != 0  # the second rollout is from an updated policy
    kind = "adapter" if lora == "continue" else "complete"
    assert (read_rung(outputs[0]).kind, read_rung(parent).kind) == (kind, "adapter")


def test_the_rung_holds_no_critic_and_comes_out_the_same_again(tmp_path, base):
    first, _ = made(tmp_path / "a", base, base)
    second, _ = made(tmp_path / "b", base, base)
    rung = read_rung(first[0])
    assert rung.identity == read_rung(second[0]).identity
    assert first[1].read_bytes() == second[1].read_bytes()
    with safe_open(first[0] / "adapter_model.safetensors", "pt") as weights:
        assert all("lora_" in name for name in weights.keys())  # noqa: SIM118
    assert rung.trainable_parameters == load(first[0], base, trainable=True).model.num_parameters(only_trainable=True)


def test_an_interrupted_training_ends_in_the_same_rung(tmp_path, base, monkeypatch, capsys):
    monkeypatch.setenv("LADDER_SAVE_SECONDS", "0")
    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "work"))
    changed = {"trainer": {"max_steps": 12}, "kl_target": 0.5}
    whole, curve = made(tmp_path / "whole", base, base, **changed)
    rollouts = iter(range(100))

    def failing(*arguments):
        if next(rollouts) == 2:
            raise ConnectionError("the judge is gone")
        return total(*arguments)

    with monkeypatch.context() as broken:
        broken.setattr(rollout_buffer, "total", failing)
        with pytest.raises(ConnectionError):
            made(tmp_path / "again", base, base, **changed)
    resumed, again = made(tmp_path / "again", base, base, **changed)
    assert "resuming at step 8 of 12" in capsys.readouterr().out
    assert read_rung(resumed[0]).identity == read_rung(whole[0]).identity
    assert resumed[1].read_bytes() == whole[1].read_bytes()
    assert [point["kl_coefficient"] for point in again] == [point["kl_coefficient"] for point in curve]
    assert curve[0]["kl_coefficient"] != curve[-1]["kl_coefficient"]


def test_an_answer_that_was_cut_scores_unfinished(tmp_path, base):
    outputs, curve = made(tmp_path, base, base, unfinished=-2.0, max_new_tokens=1)
    assert curve[0]["finished"] == 0
    assert curve[0]["reward"] == -2
    assert read_rows(outputs[1])[0]["reward"] == -2


@pytest.fixture
def judge(tmp_path, base):
    pairs = [
        {"prompt": user(f"Say {n}."), "chosen": assistant(f"{n}a"), "rejected": assistant(f"{n}b")} for n in range(8)
    ]
    write_rows(tmp_path / "pairs.jsonl", pairs[:6])
    write_rows(tmp_path / "heldout.jsonl", pairs[6:])
    trainer = {"max_steps": 10, "per_device_train_batch_size": 6, "learning_rate": 1e-2, "bf16": False}
    params = reward.Params(parent="base", data="a", heldout="b", lora=None, trainer=trainer)
    outputs = [tmp_path / name for name in ("models/reward/a", "reward.json", "reward.tsv", "heldout.json")]
    reward.main(params, base, base, tmp_path / "pairs.jsonl", tmp_path / "heldout.jsonl", *outputs)
    return outputs[0]


ASKED = [{"model": {"weight": 0.5}}, {"ended": {"weight": 1.0}}]


def test_a_reward_model_scores_the_answers(tmp_path, base, judge):
    outputs, curve = made(tmp_path, base, base, judge=judge, reward_model="reward/a", rewards=ASKED)
    first = curve[0]
    assert first["reward"] == pytest.approx(0.5 * first["rewards/model"] + first["rewards/ended"], abs=1e-5)
    assert read_rung(outputs[0]).parents == {"base": read_rung(base).identity, "reward/a": read_rung(judge).identity}


def test_a_reward_model_with_another_template_is_refused(tmp_path, base, judge):
    tokenizer = pico_tokenizer()
    tokenizer.chat_template = tokenizer.chat_template.replace("\n", " ")
    other = tmp_path / "models/other"
    save_rung(other, pico_model(tokenizer), tokenizer, rung="other", method="base")
    with pytest.raises(UserError, match="other and reward/a: expected the same chat template"):
        made(tmp_path, other, other, judge=judge, rewards=ASKED)


def test_what_cannot_work_is_refused(tmp_path, base):
    with pytest.raises(UserError, match="base: expected a reward model, .*, got a language model"):
        made(tmp_path, base, base, rewards=ASKED)
    with pytest.raises(UserError, match="expected at least 8 prompts for one rollout of 2 minibatches x 4, got 7"):
        made(tmp_path, base, base, prompts=7)
    with pytest.raises(UserError, match="minibatches: expected a multiple of the 4 that one update takes"):
        made(tmp_path, base, base, trainer={"gradient_accumulation_steps": 4})
    with pytest.raises(UserError, match="prompts.jsonl: no row of split 'test'"):
        made(tmp_path, base, base, split="test")


def test_a_full_gpu_keeps_the_rollout_too(tmp_path, base, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(ActorCriticTrainer, "compute_loss", full)
    said = "from 4 to 2 and raise gradient_accumulation_steps from 1 to 2 and minibatches from 2 to 4: the same batch"
    with pytest.raises(UserError, match=f"step 1: out of memory.*{said}"):
        made(tmp_path, base, base)
