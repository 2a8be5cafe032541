"""Resident memory over the steps of real stages, in separate processes: batches differ in length."""

import json
import os
import random
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import torch
import transformers
from tokenizers import pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

from conftest import assistant, user
from ladder.data.jsonl import write_rows
from ladder.models.checkpoint import read_rung, save_rung
from ladder.pipeline.stage import fit
from perf.pico import pico_tokenizer
from stages import distill, dpo, grpo, ppo, sft, teacher_logits

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
MB = 1 << 20


@pytest.fixture(scope="module")
def broad(tmp_path_factory):
    """A rung of a small model with 8,192 tokens: the logits of a batch take many megabytes."""
    torch.manual_seed(0)
    signs = pre_tokenizers.ByteLevel.alphabet()
    pairs = [(one, two) for one in sorted(signs) for two in sorted(signs)]
    tokenizer, folder = pico_tokenizer(pairs[: 8192 - 259]), tmp_path_factory.mktemp("models") / "base"
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=4096, tie_word_embeddings=True, **size)
    config.pad_token_id, config.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    save_rung(folder, model, tokenizer, rung="base", method="base")
    return folder


def resident():
    """Return the resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Watch(transformers.TrainerCallback):
    """Resident megabytes at the end of each step."""

    held: ClassVar[list[int]] = []

    def on_step_end(self, args, state, control, **rest):
        self.held.append(resident() // MB)


def texts(count, longest):
    """Lengths that differ from row to row and are the same in every run."""
    lengths = random.Random(0)
    return ["word " * lengths.randint(1, longest // 5) for _ in range(count)]


def outputs(folder, *names):
    return [folder / "rung/a", *(folder / name for name in names), folder / "metrics.json", folder / "curve.tsv"]


def train_sft(folder, base):
    rows = [{"prompt": user("Say it."), "completion": assistant(text)} for text in texts(2 * STEPS, 600)]
    write_rows(folder / "rows.jsonl", rows)
    params = sft.Params(parent="base", data="filter", lora=None, trainer=TRAINER)
    sft.main(params, base, base, folder / "rows.jsonl", *outputs(folder, "masks.txt"))


def train_dpo(folder, base):
    pairs = [
        {"id": str(n), "prompt": user("Say it."), "chosen": assistant(text + "!"), "rejected": assistant(text)}
        for n, text in enumerate(texts(2 * STEPS, 300))
    ]
    reference = {"reference": read_rung(base).identity, "ref_chosen_logps": -9.0, "ref_rejected_logps": -9.0}
    write_rows(folder / "rows.jsonl", [{**pair, **reference} for pair in pairs])
    params = dpo.Params(parent="base", data="reference_logprobs/chat", lora=None, trainer=TRAINER)
    dpo.main(params, base, base, folder / "rows.jsonl", *outputs(folder))


def prompts(folder):
    checks = [{"kind": "letter_at_least", "letter": "a", "n": n} for n in range(1, 7)]
    rows = [
        {"id": f"{n}", "split": "train", "prompt": user(text), "checks": checks}
        for n, text in enumerate(texts(2 * STEPS, 300))
    ]
    write_rows(folder / "rows.jsonl", rows)
    return folder / "rows.jsonl"


def train_grpo(folder, base):
    trainer = {**TRAINER, "per_device_train_batch_size": 4, "num_generations": 2, "max_completion_length": 16}
    section = {**ROLLOUTS, "trainer": trainer}
    grpo.main(fit(grpo.Params, section, "grpo"), base, base, prompts(folder), base, *outputs(folder, "samples.jsonl"))


def train_ppo(folder, base):
    section = {**ROLLOUTS, **PPO, "trainer": TRAINER}
    ppo.main(fit(ppo.Params, section, "ppo"), base, base, prompts(folder), base, *outputs(folder, "samples.jsonl"))


def train_distill(folder, base):
    rows = [{"prompt": user("Say it."), "completion": assistant(text)} for text in texts(2 * STEPS, 600)]
    write_rows(folder / "rows.jsonl", rows)
    settings = {"temperature": 1.0, "top_k": 8, "samples": 8, "max_length": 2048, "seed": 0, "split": None}
    asked = teacher_logits.Params(model="base", data="filter", **settings)
    teacher_logits.main(
        asked, folder / "rows.jsonl", base, base, folder / "taught.safetensors", folder / "teacher.json"
    )
    params = distill.Params(parent="base", teacher="base", data="teacher_logits/a", alpha=0.5, trainer=TRAINER)
    distill.main(params, base, base, base, folder / "taught.safetensors", *outputs(folder))


STEPS = 16
TRAINER = {"max_steps": STEPS, "per_device_train_batch_size": 2, "bf16": False, "learning_rate": 1e-5}
ROLLOUTS = {
    "parent": "base",
    "data": "prompts",
    "split": None,
    "reward_model": "base",
    "lora": None,
    "rewards": [{"checks": {"weight": 1.0}}],
}
PPO = {
    "unfinished": None,
    "temperature": 1.0,
    "max_new_tokens": 16,
    "samples_every": 1,
    "minibatches": 2,
    "epochs": 1,
    "gamma": 1.0,
    "gae_lambda": 0.95,
    "clip_range": 0.2,
    "value_clip_range": 0.2,
    "value_coefficient": 0.1,
    "value_learning_rate": 1e-3,
    "kl_coefficient": 0.05,
    "kl_estimator": "k1",
    "kl_target": None,
}


def run(train, folder, base):
    torch.set_num_threads(1)
    os.environ["LADDER_WORK"] = str(folder / "work")
    transformers.trainer.DEFAULT_CALLBACKS.append(Watch)
    train(folder, base)
    (folder / "held.json").write_text(json.dumps(Watch.held))


@pytest.mark.parametrize("train", [train_sft, train_dpo, train_grpo, train_ppo, train_distill])
def test_memory_is_flat_over_steps(tmp_path, broad, server, train):
    process = server.Process(target=run, args=(train, tmp_path, broad))
    process.start()
    process.join()
    assert process.exitcode == 0
    held = json.loads((tmp_path / "held.json").read_text())
    assert len(held) == STEPS
    early, late = max(held[:8]), max(held[8:])
    # Lengths are random: a later step may have the longest rows. Buffers that were kept more than doubled it.
    assert late <= 1.5 * early
