import json
import string
from importlib.util import find_spec

import pytest
import torch
from datasets import Dataset
from trl import GRPOConfig

from conftest import user
from ladder.chat.encode import prompt_tokens
from ladder.data.jsonl import write_rows
from ladder.inference.engine import decode
from ladder.inference.types import Sampling
from ladder.models.checkpoint import Model, Rung
from ladder.pipeline.stage import UserError
from ladder.training.rewards import named
from ladder.training.trl_rollouts import configured, generation_seed, prompts, resume_every, reward_functions
from perf.pico import pico_model, pico_tokenizer
from stages.grpo import SlotTrainer

CHECKS = [{"kind": "letter_at_least", "letter": letter, "n": 1} for letter in string.ascii_lowercase]
ROWS = [{"id": str(n), "split": "train", "prompt": user(f"Say {n}."), "checks": CHECKS} for n in range(4)]
REWARDS = named([{"checks": {"weight": 1}}, {"ended": {"weight": 0.5}}])


def config(tmp_path, **changed):
    arguments = {"per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 24, "max_steps": 1}
    ours = {"output_dir": str(tmp_path), "report_to": "none", "bf16": False, "use_cpu": True, "save_strategy": "no"}
    fixed = {"remove_unused_columns": False, "gradient_checkpointing": False, "dataloader_pin_memory": False}
    return GRPOConfig(**{**arguments, **ours, **fixed, **changed})


class Recording(SlotTrainer):
    """Record the training inputs."""

    def compute_loss(self, model, inputs, *rest, **named):
        self.inputs = inputs
        return super().compute_loss(model, inputs, *rest, **named)


def trainer(tmp_path, **changed):
    tokenizer = pico_tokenizer()
    rung = Rung.model_construct(rung="base")
    model = Model(pico_model(tokenizer), tokenizer, rung)
    rows = Dataset.from_list([{"prompt": row["prompt"], "row": json.dumps(row)} for row in ROWS])
    return Recording(
        model.model,
        reward_funcs=reward_functions(REWARDS, model, None),
        args=config(tmp_path, **changed),
        train_dataset=rows,
        processing_class=tokenizer,
    )


def test_what_is_trained_on_is_what_the_slots_said(tmp_path):
    made = trainer(tmp_path, max_completion_length=160)
    tokenizer, stop = made.processing_class, made.processing_class.eos_token_id
    made.train()
    seen = {tuple(prompt_tokens(tokenizer, row["prompt"])) for row in ROWS}
    ended = []
    for ids, mask, prompt, prompt_mask in zip(
        *(made.inputs[name] for name in ("completion_ids", "completion_mask", "prompt_ids", "prompt_mask")), strict=True
    ):
        assert tuple(prompt[prompt_mask.bool()].tolist()) in seen
        said = ids[mask.bool()].tolist()
        ended.append(said[-1] == stop)
        assert stop not in said[:-1]
        assert len(said) == 160 or ended[-1]
        assert mask.tolist() == sorted(mask.tolist(), reverse=True)
    assert 0 < sum(ended) < len(ended)
    sampled = sorted(row["tokens"] for row in made.samples)
    assert sampled == sorted(made.inputs["completion_mask"].sum(1).tolist())
    for row in made.samples:
        assert row["rewards"]["ended"] == float(row["tokens"] < 160)
        text = row["completion"][0]["content"].lower()
        assert row["rewards"]["checks"] == pytest.approx(sum(c in text for c in string.ascii_lowercase) / 26, abs=1e-6)


def test_the_advantage_is_the_groups(tmp_path):
    made = trainer(tmp_path)
    made.train()
    assert len(made.samples) == 8
    for group in (made.samples[:4], made.samples[4:]):
        assert len({row["prompt"][0]["content"] for row in group}) == 1
        sums = torch.tensor([row["rewards"]["checks"] + row["rewards"]["ended"] for row in group])
        expected = (sums - sums.mean()) / (sums.std() + 1e-4)
        assert [row["advantage"] for row in group] == pytest.approx(expected.tolist(), abs=1e-3)


def test_answers_differ_from_call_to_call_and_come_back(tmp_path):
    made, again = trainer(tmp_path), trainer(tmp_path)
    ids = [prompt_tokens(made.processing_class, row["prompt"]) for row in ROWS]
    made.generation = again.generation = (3, 0)
    first = made.answers(ids)
    assert first == again.answers(ids)
    made.generation = (3, 1)
    assert not any(map(list.__eq__, first, made.answers(ids)))
    made.generation = (4, 0)
    assert not any(map(list.__eq__, first, made.answers(ids)))
    assert len({tuple(answer) for answer in made.answers([ids[0]] * 4)}) == 4


def test_the_temperature_of_the_samples_is_that_of_the_loss(tmp_path):
    cold = trainer(tmp_path, temperature=0.01)
    ids = [prompt_tokens(cold.processing_class, row["prompt"]) for row in ROWS]
    greedy = decode(cold.model, ids, Sampling(max_new_tokens=24), stop=[cold.processing_class.eos_token_id])
    assert sum(cold.answers(ids)[n][:24] == greedy[n].tokens[:24] for n in range(4)) >= 3

    warm = trainer(tmp_path, temperature=0.5)
    warm.train()
    inputs = warm.inputs
    whole = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
    model, said = warm.model.eval(), inputs["completion_ids"]
    with torch.no_grad():
        logits = model(whole, attention_mask=mask).logits[:, -said.shape[1] - 1 : -1] / 0.5
        logps = logits.log_softmax(-1).gather(-1, said[..., None])[..., 0]
        # a reference twice as likely at each token: rho - log rho - 1 = 2 - log 2 - 1 per token, and nothing else
        warm.beta = 1.0
        still = {**inputs, "advantages": torch.zeros(len(said)), "ref_per_token_logps": logps + torch.tensor(2.0).log()}
        assert warm.compute_loss(model, still).item() == pytest.approx(1 - torch.tensor(2.0).log().item(), abs=1e-4)


def test_seeds_do_not_meet():
    seeds = {generation_seed(0, step, count, rank) for step in range(50) for count in range(8) for rank in range(8)}
    assert len(seeds) == 50 * 8 * 8
    assert generation_seed(1, 0, 0, 0) not in seeds


@pytest.mark.parametrize(
    ("changed", "steps"),
    [
        ({}, 1),
        ({"gradient_accumulation_steps": 4}, 1),
        ({"gradient_accumulation_steps": 4, "num_iterations": 3}, 3),
        ({"gradient_accumulation_steps": 2, "steps_per_generation": 8}, 4),
        ({"gradient_accumulation_steps": 4, "steps_per_generation": 1}, 1),
        ({"gradient_accumulation_steps": 4, "steps_per_generation": 6}, 3),
    ],
)
def test_a_resume_begins_with_a_generation(tmp_path, changed, steps):
    assert resume_every(config(tmp_path, **changed)) == steps


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"top_p": 0.9}, "trainer.top_p: expected 1.0, got 0.9: truncated sampling is not the policy's own"),
        ({"top_k": 50}, "trainer.top_k: expected 0"),
        ({"repetition_penalty": 1.1}, "trainer.repetition_penalty"),
        ({"temperature": 0.0}, "trainer.temperature: expected more than 0"),
        ({"use_transformers_continuous_batching": True}, "no other engine"),
        ({"vllm_structured_outputs_regex": "a+"}, "trainer.vllm_structured_outputs_regex: expected None"),
        ({"reward_weights": [1.0, 1.0]}, "trainer.reward_weights: not supported"),
    ],
)
def test_what_would_train_on_something_else_is_refused(tmp_path, changed, sentence):
    with pytest.raises(UserError, match=sentence):
        configured(GRPOConfig, {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False, **changed}, REWARDS)


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU vLLM takes a policy's weights")
@pytest.mark.parametrize("mode", ["colocate", "server"])
def test_vllm_is_refused_where_it_cannot_take_the_policy(tmp_path, mode):
    sentence = "needs CUDA to update the policy's weights" if find_spec("vllm") else "vLLM is not installed"
    with pytest.raises(UserError, match=f"engine: vllm: {sentence}"):
        configured(GRPOConfig, {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False, "use_vllm": True,
                                "vllm_mode": mode}, REWARDS)  # fmt: skip


def test_prompts_keep_their_rows_whole(tmp_path):
    rows = [
        {"id": "0", "split": "a", "prompt": user("Say."), "checks": [{"kind": "words_at_most", "n": 3}]},
        {"id": "1", "split": "b", "prompt": user("So."), "checks": [{"kind": "avoids_words", "words": ["no"]}]},
    ]
    write_rows(tmp_path / "p.jsonl", rows)
    assert [json.loads(text) for text in prompts(tmp_path / "p.jsonl", None, REWARDS)["row"]] == rows
    assert prompts(tmp_path / "p.jsonl", "b", REWARDS)["prompt"] == [rows[1]["prompt"]]
