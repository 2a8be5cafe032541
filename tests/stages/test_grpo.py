import hashlib
import json
import math
import string
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from trl import GRPOConfig

from conftest import user
from ladder.data.jsonl import read_rows, write_rows
from ladder.models.checkpoint import load, read_rung
from ladder.pipeline.stage import UserError, fit
from ladder.training import rewards
from ladder.training.trl_rollouts import DynamicSampling, start
from perf.pico import pico_model, pico_tokenizer
from stages import grpo, rloo
from torch_helpers import moved

CHECKS = [{"kind": "letter_at_least", "letter": letter, "n": 1} for letter in string.ascii_lowercase]
TRAINER = {
    "max_steps": 1,
    "per_device_train_batch_size": 16,
    "num_generations": 8,
    "max_completion_length": 16,
    "learning_rate": 1e-2,
    "lr_scheduler_type": "constant",
    "bf16": False,
}


def alphabet(count=8):
    """Reward: the share of the alphabet that occurs in the answer."""
    return [{"id": str(n), "split": "train", "prompt": user(f"Say {n}."), "checks": CHECKS} for n in range(count)]


def climbed(
    tmp_path, parent, base, *, stage=grpo, lora=None, rows=None, reward=None, reward_model="base", redraw=0, **trainer
):
    write_rows(tmp_path / "prompts.jsonl", rows or alphabet())
    section = {
        "parent": "base",
        "data": "prompts",
        "split": None,
        "lora": lora,
        "rewards": [reward or {"checks": {"weight": 1.0}}],
        "reward_model": reward_model,
        "redraw": redraw,
        "trainer": {**TRAINER, **trainer},
    }
    params = fit(stage.Params, section, "grpo.chat")
    name = stage.__name__.rsplit(".", 1)[1]
    outputs = [tmp_path / f"models/{name}/a", tmp_path / "a.jsonl", tmp_path / "a.json", tmp_path / "a.tsv"]
    stage.main(params, parent, base, tmp_path / "prompts.jsonl", base, *outputs)
    header, *points = (line.split("\t") for line in outputs[3].read_text().splitlines())
    curve = [dict(zip(header, map(float, point), strict=True)) for point in points]
    return outputs[0], read_rows(outputs[1]), curve


def gain(curve, answers):
    """Difference of the mean reward of the last and the first four steps, in standard errors."""

    def mean_and_error(points):
        mean = sum(point["reward"] for point in points) / len(points)
        return mean, sum(point["reward_std"] ** 2 for point in points) / len(points) ** 2 / answers

    (first, before), (last, after) = mean_and_error(curve[:4]), mean_and_error(curve[-4:])
    return (last - first) / math.sqrt(before + after)


def test_it_learns(tmp_path, base):
    directory, samples, curve = climbed(tmp_path, base, base, per_device_train_batch_size=32, max_steps=20)
    assert gain(curve, 32) > 5
    assert curve[-1]["reward"] > 2 * curve[0]["reward"]
    rung = read_rung(directory)
    assert (rung.method, rung.kind, rung.parents) == ("grpo", "complete", {"base": read_rung(base).identity})
    assert {row["step"] for row in samples} == {0, 10}
    assert json.loads((tmp_path / "a.json").read_text())["reward"] > 2 * curve[0]["reward"]


@pytest.mark.parametrize(
    ("loss_type", "scale", "normal"),
    [
        ("dapo", "group", "tokens"),
        ("dr_grpo", "none", "constant"),
        ("bnpo", "batch", "tokens"),
        ("grpo", "group", None),
    ],
)
def test_the_first_loss_is_the_advantages(tmp_path, base, loss_type, scale, normal):
    # while pi is pi_old the loss of a token is -A; the test covers scaling of advantages and averaging of tokens
    _, samples, curve = climbed(
        tmp_path, base, base, loss_type=loss_type, scale_rewards=scale, max_completion_length=160
    )
    reward = torch.tensor([row["rewards"]["checks"] for row in samples]).view(2, 8)
    tokens = torch.tensor([row["tokens"] for row in samples]).view(2, 8)
    assert len(tokens.unique()) > 1
    spread = {"group": reward.std(1, keepdim=True) + 1e-4, "batch": reward.std() + 1e-4, "none": torch.tensor(1.0)}
    advantage = (reward - reward.mean(1, keepdim=True)) / spread[scale]
    total = -(advantage * tokens).sum()
    expected = {"tokens": total / tokens.sum(), "constant": total / (16 * 160), None: torch.tensor(0.0)}[normal]
    assert curve[0]["loss"] == pytest.approx(expected.item(), abs=2e-5)
    assert normal is None or abs(curve[0]["loss"]) > 1e-4


@pytest.mark.parametrize(
    ("loss_type", "expected"),
    [
        # tokens' losses 1.5 | -1.2, -0.5, -0.5 (see below): the mean of the answers' means, of all tokens, over 2 x 10
        ("grpo", (1.5 - (1.2 + 0.5 + 0.5) / 3) / 2),
        ("dapo", (1.5 - 2.2) / 4),
        ("dr_grpo", (1.5 - 2.2) / 20),
    ],
)
def test_the_loss_is_clipped_as_equation_3_says(tmp_path, loss_type, expected):
    tokenizer = pico_tokenizer()
    model = pico_model(tokenizer).eval()
    config = GRPOConfig(
        output_dir=str(tmp_path),
        report_to="none",
        bf16=False,
        use_cpu=True,
        loss_type=loss_type,
        max_completion_length=10,
        epsilon=0.2,
    )
    prompt = Dataset.from_list([{"prompt": user("Say."), "row": "{}"}])
    trainer = grpo.SlotTrainer(model, [lambda **_: []], config, prompt, processing_class=tokenizer)
    ids = torch.tensor([[7, 8, 9], [7, 8, 9]])
    said, mask = torch.tensor([[40, 0, 0], [50, 60, 70]]), torch.tensor([[1, 0, 0], [1, 1, 1]])
    with torch.no_grad():
        logits = model(torch.cat([ids, said], 1), attention_mask=torch.cat([torch.ones_like(ids), mask], 1)).logits
        logps = logits[:, 2:-1].log_softmax(-1).gather(-1, said[..., None])[..., 0]
        # A = -1: rho 1.5 costs 1.5 unclipped. A = +1: rho 1.5 is clipped to 1.2, and rho 0.5 is not clipped
        rho = torch.tensor([[1.5, 1, 1], [1.5, 0.5, 0.5]])
        inputs = {
            "prompt_ids": ids,
            "prompt_mask": torch.ones_like(ids),
            "completion_ids": said,
            "completion_mask": mask,
            "advantages": torch.tensor([-1.0, 1.0]),
            "old_per_token_logps": logps - rho.log(),
            "num_items_in_batch": mask.sum(),
        }
        assert trainer.compute_loss(model, inputs).item() == pytest.approx(expected, abs=1e-5)


IMPOSSIBLE = [{"kind": "letter_at_least", "letter": "e", "n": 1000}]


def mostly_impossible():
    """Eight prompts; only the last two can have answers with different rewards."""
    return [{**row, "checks": CHECKS if n >= 6 else IMPOSSIBLE} for n, row in enumerate(alphabet())]


@pytest.mark.parametrize("stage", [grpo, rloo])
def test_groups_with_equal_rewards_are_redrawn(tmp_path, base, stage):
    settings = {"stage": stage, "rows": mostly_impossible(), "max_steps": 3, "learning_rate": 1e-3}
    _, samples, curve = climbed(tmp_path, base, base, redraw=6, **settings)
    # Six rounds ask all six others, so both groups of every step are the two that can differ.
    assert [point["frac_reward_zero_std"] for point in curve] == [0, 0, 0]
    assert {row["prompt"][-1]["content"] for row in samples} == {"Say 6.", "Say 7."}
    metrics = json.loads((tmp_path / "a.json").read_text())
    assert metrics["groups"] == 6
    assert metrics["groups_equal"] == metrics["groups_replaced"] >= 2
    assert metrics["groups_drawn"] > 6


@pytest.mark.parametrize(
    ("use_vllm", "batch", "words"),
    [(True, 8, "engine: vllm"), (False, 4, "generates 4 answers; expected a multiple .* 8")],
)
def test_redraw_is_refused_where_it_cannot_work(use_vllm, batch, words):
    # Of two processes with 4 answers each, none has a whole group of 8.
    given = SimpleNamespace(per_device_train_batch_size=batch, steps_per_generation=1, num_generations=8)
    with pytest.raises(UserError, match=f"^redraw: .*{words}"):
        start(SimpleNamespace(use_vllm=use_vllm, args=given), None, "auto", DynamicSampling(1, [], None, {}))


def test_without_redraw_nothing_is_counted_and_the_settings_are_as_before(tmp_path, base):
    directory, _, curve = climbed(tmp_path, base, base, rows=mostly_impossible(), max_steps=4, learning_rate=1e-3)
    assert max(point["frac_reward_zero_std"] for point in curve) == 1
    assert "groups" not in json.loads((tmp_path / "a.json").read_text())
    assert "redraw" not in read_rung(directory).settings


def test_weights_learn_in_float32_under_bf16(tmp_path, base):
    # values next to 0.2 are 1e-3 apart in bfloat16: no step of 3e-4 would change it; in float32 four steps do
    directory, _, _ = climbed(tmp_path, base, base, bf16=True, learning_rate=3e-4, max_steps=4)
    assert moved(base, directory, least=0.125) > 0.2


def test_the_reference_is_the_parent(tmp_path, base):
    parent, _, first = climbed(tmp_path / "1", base, base, lora={"r": 4}, max_steps=3)
    assert "kl" not in first[0]
    for name, lora, kind in (("on", "continue", "adapter"), ("new", {"r": 2}, "complete"), ("all", None, "complete")):
        directory, _, curve = climbed(tmp_path / name, parent, base, lora=lora, beta=0.1, max_steps=2)
        assert abs(curve[0]["kl"]) < 1e-5 < curve[-1]["kl"]
        rung = read_rung(directory)
        assert (rung.kind, rung.parents) == (kind, {"grpo/a": read_rung(parent).identity})
        load(directory, base)


class Killed(Exception):
    pass


def test_a_killed_training_goes_on_to_the_same_rung(tmp_path, base, monkeypatch, capsys):
    # 4 prompts in groups of 8, 16 answers at once, two passes over them: an epoch has 4 steps, a generation 2
    recipe = {"num_iterations": 2, "max_steps": 8, "beta": 0.1, "logging_steps": 1}
    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "work"))
    monkeypatch.setenv("LADDER_SAVE_SECONDS", "0")
    whole = climbed(tmp_path / "whole", base, base, lora={"r": 2}, rows=alphabet(4), **recipe)
    calls = []

    def dies(given, **parameters):
        calls.append(given)
        if len(calls) == 4:  # in the second epoch, after 6 steps
            raise Killed
        return rewards.checks(given, **parameters)

    with monkeypatch.context() as context, pytest.raises(Killed):
        context.setitem(rewards.KINDS, "checks", dies)
        climbed(tmp_path / "killed", base, base, lora={"r": 2}, rows=alphabet(4), **recipe)
    assert not (tmp_path / "killed/models").exists()
    capsys.readouterr()
    resumed = climbed(tmp_path / "killed", base, base, lora={"r": 2}, rows=alphabet(4), **recipe)
    assert "resuming at step 6 of 8" in capsys.readouterr().out
    weights = [
        hashlib.sha256((made[0] / "adapter_model.safetensors").read_bytes()).digest() for made in (whole, resumed)
    ]
    assert weights[0] == weights[1]
    assert read_rung(whole[0]).identity == read_rung(resumed[0]).identity
    assert json.dumps(whole[1]) == json.dumps(resumed[1])  # with the same order of keys
    timed = ("seconds", "step_time", "tokens_per_second")
    curves = [
        str([{k: v for k, v in point.items() if k not in timed} for point in made[2]]) for made in (whole, resumed)
    ]
    assert curves[0] == curves[1]


def test_a_reward_that_never_differs_teaches_nothing_and_publishes_no_rung(tmp_path, base, capsys):
    with pytest.raises(UserError, match="the gradient was zero at all 2 steps. Every answer to a prompt got"):
        climbed(tmp_path, base, base, reward={"format": {"weight": 1.0, "pattern": ""}}, max_steps=2)
    assert not (tmp_path / "models").exists() and not (tmp_path / "a.json").exists()


def test_prompts_that_leave_no_room_for_an_answer_are_counted(tmp_path, base, capsys):
    room = 4096 - TRAINER["max_completion_length"]  # the pico model's context
    long = [{**row, "prompt": user("x" * room)} for row in alphabet(3)]
    climbed(tmp_path, base, base, rows=alphabet() + long, max_steps=1)
    measured = json.loads((tmp_path / "a.json").read_text())
    assert (measured["prompts"], measured["too_long"]) == (8, 3)
    assert "grpo: too_long: 3 left out" in capsys.readouterr().err
    with pytest.raises(UserError, match="none of 3 prompts leaves room for an answer"):
        climbed(tmp_path, base, base, rows=long, max_steps=1)


def test_mistakes_are_reported(tmp_path, base):
    with pytest.raises(UserError, match="base: expected a reward model, .*, got a language model"):
        climbed(tmp_path, base, base, reward={"model": {"weight": 1.0}})
    with pytest.raises(UserError, match="trainer: top_p: no effect here; expected 1.0, got 0.9"):
        climbed(tmp_path, base, base, top_p=0.9)
    with pytest.raises(UserError, match="prompts.jsonl: row 1: checks: missing or empty"):
        climbed(tmp_path, base, base, rows=[{"prompt": user("Say.")}])
    with pytest.raises(UserError, match="expected at least 2 rows for one step .*, got 1"):
        climbed(tmp_path, base, base, rows=alphabet(1))
    with pytest.raises(UserError, match="GRPOConfig: .*divisible by num_generations"):
        climbed(tmp_path, base, base, num_generations=5)
