"""What all trainings share, with one process and with two."""

import json
import math
import os
import socket

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import Trainer, TrainerCallback, TrainingArguments

from conftest import assistant, unfinished, user
from ladder.data.jsonl import write_rows
from ladder.pipeline.stage import UserError
from ladder.training.callbacks import TIMINGS
from ladder.training.model_setup import climb
from ladder.training.train import fill, fit_and_save, hollow, shared, sizes, trainer_arguments
from perf.pico import pico_model, pico_tokenizer
from stages import dpo, reference_logprobs, sft

pytestmark = pytest.mark.usefixtures("work")

TRAINER = {
    "max_steps": 4,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 4,
    "learning_rate": 1e-3,
    "bf16": False,
}


def on_rank(train, folder, base, rank, ranks, port):
    torch.set_num_threads(1)
    os.environ["LADDER_WORK"] = str(folder / "work")
    if ranks > 1:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks))
        os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=str(port))
    train(folder, base)


def on_ranks(server, train, folder, base, ranks):
    """Train as a launcher would start it, with rank r in folder/r; return the curve of rank 0."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(ranks):
        (folder / str(rank)).mkdir(parents=True)
        processes.append(server.Process(target=on_rank, args=(train, folder / str(rank), base, rank, ranks, port)))
        processes[-1].start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * ranks
    header, *lines = (line.split("\t") for line in (folder / "0/curve.tsv").read_text().splitlines())
    return [dict(zip(header, map(float, line), strict=True)) for line in lines]


def text(n):
    return "x" * (1 + 7 * n % 20)  # different lengths, so that a mean over ranks differs from one over tokens


def train_sft(folder, base):
    rows = [{"prompt": user(f"Say {n}."), "completion": assistant(text(n))} for n in range(16)]
    write_rows(folder / "rows.jsonl", rows)
    params = sft.Params(parent="base", data="filter", lora=None, trainer=TRAINER)
    paths = [folder / name for name in ("rows.jsonl", "sft/chat", "masks.txt", "metrics.json", "curve.tsv")]
    sft.main(params, base, base, *paths)


def train_dpo(folder, base):
    pairs = [
        {"id": str(n), "prompt": user(f"{n}?"), "chosen": assistant(text(n)), "rejected": assistant(text(n + 5))}
        for n in range(16)
    ]
    write_rows(folder / "pairs.jsonl", pairs)
    made = folder / "rows.jsonl"
    reference_logprobs.main(
        reference_logprobs.Params(model="base", data="pairs"), folder / "pairs.jsonl", base, base, made
    )
    trainer = {**TRAINER, "loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2]}
    params = dpo.Params(parent="base", data="reference_logprobs/chat", lora=None, trainer=trainer)
    dpo.main(params, base, base, made, *(folder / name for name in ("dpo/chat", "metrics.json", "curve.tsv")))


@pytest.mark.parametrize("train", [train_sft, train_dpo])
def test_two_processes_learn_what_one_does(tmp_path, base, server, train):
    alone = on_ranks(server, train, tmp_path / "alone", base, 1)
    both = on_ranks(server, train, tmp_path / "both", base, 2)
    assert len(alone) == len(both) == 4
    for one, two in zip(alone, both, strict=True):
        for name in ("loss", "grad_norm", "learning_rate", "num_tokens"):
            assert two[name] == pytest.approx(one[name], rel=1e-4), name
    one, two = (load_file(next((tmp_path / name / "0").glob("*/chat/model.safetensors"))) for name in ("alone", "both"))
    assert all(torch.allclose(one[name].float(), two[name].float(), atol=1e-3) for name in one)
    left = {path.name for path in (tmp_path / "both/1").rglob("*") if path.is_file() and "hashes" not in path.parts}
    assert left <= {"rows.jsonl", "pairs.jsonl"}  # the inputs of rank 1, and no output


def test_processes_share_the_accumulation():
    assert shared({"gradient_accumulation_steps": 8}, 4) == {"gradient_accumulation_steps": 2}
    assert shared({"learning_rate": 1}, 1) == {"learning_rate": 1}
    both = {"gradient_accumulation_steps": 8, "steps_per_generation": 16}
    assert shared(both, 8) == {"gradient_accumulation_steps": 1, "steps_per_generation": 2}
    same = "per_device_train_batch_size: 2 with gradient_accumulation_steps: 8 is the same batch of 16 rows"
    with pytest.raises(
        UserError, match=f"gradient_accumulation_steps: expected a multiple of the 8 processes, got 1. {same}"
    ):
        shared({"per_device_train_batch_size": 16}, 8)
    with pytest.raises(UserError, match="the 8 processes, got 2; the batch of 12 rows is no multiple"):
        shared({"per_device_train_batch_size": 6, "gradient_accumulation_steps": 2}, 8)


class Full(TrainerCallback):
    """The GPU runs out of memory in the third step."""

    def on_step_begin(self, args, state, control, **rest):
        if state.global_step == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")


def fit(tmp_path, base, rows=8, callbacks=(), **arguments):
    whole = {"max_steps": 3, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, **arguments}
    with trainer_arguments(whole) as given:
        climbed = climb(base, base, {"r": 2}, seed=0)
        trainer = Trainer(
            climbed.start.model,
            TrainingArguments(**given),
            train_dataset=Dataset.from_list([{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}] * rows),
            callbacks=list(callbacks),
        )
        fit_and_save(
            trainer,
            climbed,
            rung="plain/chat",
            method="plain",
            settings={},
            parents={"base": climbed.parent},
            output=tmp_path / "plain/chat",
            metrics=tmp_path / "metrics.json",
            curve=tmp_path / "curve.tsv",
            measured={"rows": rows},
            endings={"loss": "loss"},
        )


def test_the_ledger_reports_rate_and_memory(tmp_path, base):
    fit(tmp_path, base)
    ledger = json.loads((tmp_path / "metrics.json").read_text())
    assert ledger["samples_per_second"] > 0 and 0.1 < ledger["memory_gb"] < 100
    header = (tmp_path / "curve.tsv").read_text().splitlines()[0].split("\t")
    assert header[0] == "step" and header[1:] == sorted(header[1:])
    assert {"loss", "grad_norm", "learning_rate"} < set(header) and not set(TIMINGS) & set(header)


@pytest.mark.parametrize("silent", [{"logging_steps": 100}, {"logging_strategy": "no"}, {"logging_strategy": "epoch"}])
def test_every_step_is_logged_whatever_is_asked(tmp_path, base, silent):
    fit(tmp_path, base, **silent)
    assert [line.split("\t")[0] for line in (tmp_path / "curve.tsv").read_text().splitlines()] == [
        "step",
        "1",
        "2",
        "3",
    ]


@pytest.mark.parametrize(("given", "bf16"), [({}, True), ({"fp16": True}, False), ({"bf16": False}, False)])
def test_bf16_is_the_default_as_it_is_trls(given, bf16):
    with trainer_arguments(given) as arguments:
        assert arguments["bf16"] == bf16


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "from 4 to 2 and raise gradient_accumulation_steps from 2 to 4: the same batch in half the memory"),
        ({"per_device_train_batch_size": 1}, "one row at a time. Set trainer.gradient_checkpointing: true"),
        ({"per_device_train_batch_size": 1, "gradient_checkpointing": True}, "one row at a time. Lower trainer.max_le"),
    ],
)
def test_a_full_gpu_is_reported_with_what_to_change(tmp_path, base, arguments, said):
    with pytest.raises(UserError, match=f"step 3: out of memory.*{said}"):
        fit(tmp_path, base, callbacks=[Full()], **arguments)
    assert not (tmp_path / "plain").exists() and not unfinished(tmp_path / "work")


def test_rows_that_do_not_fill_a_step_are_refused(tmp_path, base):
    said = r"expected at least 8 rows for one step \(4 rows, 2 accumulation steps\), got 7"
    with pytest.raises(UserError, match=said):
        fit(tmp_path, base, rows=7)


def test_what_is_gathered_fills_a_hollow_model(base):
    model = pico_model(pico_tokenizer())
    state = {name: weight.clone() for name, weight in model.state_dict().items()}
    empty = hollow(model)
    assert all(weight.is_meta for weight in empty.parameters())
    filled = fill(empty, state)
    ids = torch.tensor([[3, 4, 5]])
    assert torch.equal(filled(ids).logits, model(ids).logits)
    assert filled.lm_head.weight is filled.model.embed_tokens.weight
    del state["model.norm.weight"]
    with pytest.raises(RuntimeError, match="model.norm.weight: not in the gathered state"):
        fill(hollow(model), state)


def test_an_adapter_is_gathered_too(base):
    model = climb(base, base, {"r": 2}, seed=0).start.model
    filled = fill(hollow(model), {name: weight.clone() for name, weight in model.state_dict().items()})
    assert torch.equal(filled(torch.tensor([[3, 4]])).logits, model(torch.tensor([[3, 4]])).logits)
    trainable = [weight.requires_grad for weight in model.parameters()]
    assert [weight.requires_grad for weight in filled.parameters()] == trainable


def test_sizes_of_what_is_saved(base):
    model = pico_model(pico_tokenizer())
    count = sum(math.prod(weight.shape) for weight in model.parameters())
    assert sizes(model) == (4 * count + 8 * count, 2 * count)
    adapted = climb(base, base, {"r": 2}, seed=0)
    learned = adapted.trainable_parameters
    width = next(weight.element_size() for weight in adapted.start.model.parameters() if weight.requires_grad)
    assert sizes(adapted.start.model) == (width * learned + 8 * learned, 2 * learned)
