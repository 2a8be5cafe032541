"""Rows held out by prompt, the loss on them, and the checkpoint with the best loss."""

import hashlib
import json
import random

import pytest
import torch
from safetensors.torch import load_file

from conftest import assistant, unfinished, user
from ladder.data.jsonl import write_rows
from ladder.models.checkpoint import load
from ladder.pipeline.stage import UserError, fit
from ladder.training.validation import Validation, before_answer, pair_prompt, split
from perf.pico import pico_tokenizer
from stages import dpo, gkd, kto, orpo, reference_logprobs, reward, sft

pytestmark = pytest.mark.usefixtures("work")

TRAINER = {"max_steps": 6, "per_device_train_batch_size": 2, "learning_rate": 0.02, "bf16": False}


def rows_of(prompts, each=2):
    return [{"prompt_ids": [n, n + 1], "answer": k} for n in range(prompts) for k in range(each)]


def test_rows_with_one_prompt_fall_on_one_side_in_every_order():
    rows = rows_of(40)
    learned, held = split(rows, pair_prompt, Validation(share=0.1))
    assert held.prompts == 4 and held.counts == {"validation_rows": 8, "validation_prompts": 4}
    assert not {tuple(row["prompt_ids"]) for row in learned} & {tuple(row["prompt_ids"]) for row in held.held_out}
    shuffled = random.Random(1).sample(rows, len(rows))
    again = split(shuffled, pair_prompt, Validation(prompts=4))[1].held_out
    assert sorted(map(str, again)) == sorted(map(str, held.held_out))
    smallest = sorted({hashlib.sha256(json.dumps(row["prompt_ids"]).encode()).hexdigest() for row in rows})[:4]
    assert {hashlib.sha256(json.dumps(row["prompt_ids"]).encode()).hexdigest() for row in again} == set(smallest)


def test_without_validation_nothing_is_held_out_or_written():
    rows = rows_of(3)
    learned, held = split(rows, pair_prompt, None)
    assert (learned, held.held_out, held.counts) == (rows, [], {})
    section = {"parent": "base", "data": "filter", "lora": None, "trainer": {}}
    assert "validation" not in fit(sft.Params, section, "sft.chat").model_dump()
    dumped = fit(sft.Params, {**section, "validation": {"share": 0.1}}, "sft.chat").model_dump()
    assert dumped["validation"] == {"share": 0.1}


def test_a_prompt_ends_where_the_first_answer_begins():
    assert before_answer({"input_ids": [1, 2, 3, 4], "labels": [-100, -100, 3, -100]}) == [1, 2]


@pytest.mark.parametrize("validation", [{"prompts": 3}, {"share": 0.9}])
def test_a_split_that_leaves_nothing_to_learn_is_refused(validation):
    with pytest.raises(UserError, match="3 of 3 prompts would be held out, and none trained on"):
        split(rows_of(3), pair_prompt, Validation(**validation))


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"validation": {}}, "expected exactly one of share (0.05) and prompts (64)"),
        ({"validation": {"share": 0.1, "prompts": 3}}, "expected exactly one of share"),
        ({"validation": {"share": 1.0}}, "validation.share"),
        ({"validation": {"prompts": 0}}, "validation.prompts"),
        ({"trainer": {"eval_strategy": "steps", "eval_steps": 2}}, "trainer.eval_strategy: no rows to evaluate on"),
        ({"trainer": {"per_device_eval_batch_size": 2}}, "trainer.per_device_eval_batch_size: no rows"),
        (
            {"validation": {"share": 0.1}, "trainer": {"load_best_model_at_end": True}},
            "Set eval_strategy: steps or epo",
        ),
        (
            {
                "validation": {"share": 0.1},
                "trainer": {"eval_strategy": "epoch", "load_best_model_at_end": True, "metric_for_best_model": "bleu"},
            },
            "expected one of loss, mean_token_accuracy, entropy, got 'bleu'",
        ),
        ({"validation": {"share": 0.1}, "trainer": {"greater_is_better": True}}, "without load_best_model_at_end"),
        ({"trainer": {"lr_scheduler_type": "reduce_lr_on_plateau"}}, "trainer.lr_scheduler_type: no rows"),
    ],
)
def test_keys_of_the_evaluation_need_rows(section, words):
    whole = {"parent": "base", "data": "filter", "lora": None, "trainer": {}, **section}
    with pytest.raises(UserError) as refusal:
        fit(sft.Params, whole, "sft.chat")
    assert words in str(refusal.value)


def train_sft(tmp_path, base, name="chat", lora=None, validation=None, **changed):
    rows = [{"prompt": user(f"Say {n}."), "completion": assistant("ab" * (1 + n % 3))} for n in range(12)]
    write_rows(tmp_path / "rows.jsonl", rows)
    section = {"parent": "base", "data": "filter", "lora": lora, "trainer": {**TRAINER, **changed}}
    params = fit(sft.Params, {**section, "validation": validation or {"prompts": 3}}, "sft.chat")
    output = tmp_path / "models/sft" / name
    paths = [tmp_path / f"{name}.{end}" for end in ("txt", "json", "tsv")]
    sft.main(params, base, base, tmp_path / "rows.jsonl", output, *paths)
    return output, json.loads(paths[1].read_text()), curve(paths[2])


def curve(path):
    header, *lines = (line.split("\t") for line in path.read_text().splitlines())
    return [dict(zip(header, map(float, line), strict=True)) for line in lines]


def loss_of(model, rows):
    """Mean negative log-likelihood of trained tokens, one plain forward pass per row."""
    total = count = 0
    for row in rows:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])[1:]
        with torch.no_grad():
            logps = model(ids).logits[0, :-1].float().log_softmax(-1)
        learned = labels != -100
        total -= logps[learned].gather(1, labels[learned, None]).sum().item()
        count += int(learned.sum())
    return total / count


def test_the_loss_on_held_out_rows_is_that_of_a_plain_forward_pass(tmp_path, base):
    output, ledger, points = train_sft(tmp_path, base, eval_strategy="steps", eval_steps=4, bf16=False)
    assert (ledger["rows"], ledger["validation_rows"], ledger["validation_prompts"]) == (9, 3, 3)
    measured = [point["step"] for point in points if point["validation_loss"] == point["validation_loss"]]
    assert measured == [4, 6]  # the last step too
    rows = sft.token_rows(
        [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()],
        tmp_path / "rows.jsonl",
        pico_tokenizer(),
        None,
    )
    held_out = split(rows, before_answer, Validation(prompts=3))[1].held_out
    saved = load(output, base, dtype=torch.float32).model.cpu()
    assert ledger["validation_loss"] == pytest.approx(loss_of(saved, held_out), rel=0.02)  # saved in bfloat16
    assert ledger["validation_loss"] == pytest.approx(points[-1]["validation_loss"], abs=1e-4)


def test_the_best_checkpoint_is_published(tmp_path, base):
    diverging = {"learning_rate": 0.3, "lr_scheduler_type": "constant", "max_grad_norm": 1e9}
    evaluated = {"eval_strategy": "steps", "eval_steps": 1, **diverging}
    best, ledger, points = train_sft(tmp_path, base, "best", load_best_model_at_end=True, **evaluated)
    losses = [point["validation_loss"] for point in points]
    assert ledger["validation_loss"] == pytest.approx(min(losses), abs=1e-4)
    assert ledger["best_step"] == 1 + losses.index(min(losses)) < 6  # the test is void if the last step is best
    stopped, *_ = train_sft(tmp_path, base, "stopped", **{**evaluated, "max_steps": ledger["best_step"]})
    first, second = (load_file(path / "model.safetensors") for path in (best, stopped))
    assert all(torch.equal(first[name], second[name]) for name in second)
    worst, ledger, _ = train_sft(
        tmp_path, base, "worst", load_best_model_at_end=True, greater_is_better=True, **evaluated
    )
    assert ledger["validation_loss"] == pytest.approx(max(losses), abs=1e-4)
    assert not unfinished(tmp_path / "work")


def pairs(tmp_path, base):
    rows = [
        {"id": str(n), "prompt": user(f"{n}?"), "chosen": assistant(f"{n}!"), "rejected": assistant(f"{n} or so")}
        for n in range(12)
    ]
    write_rows(tmp_path / "pairs.jsonl", rows)
    params = reference_logprobs.Params(model="base", data="pairs")
    reference_logprobs.main(params, tmp_path / "pairs.jsonl", base, base, tmp_path / "rows.jsonl")


@pytest.mark.parametrize(
    ("stage", "extra", "column"),
    [
        (dpo, {}, "validation_rewards/accuracies"),
        (kto, {}, "validation_rewards/margins"),
        (orpo, {"beta": 0.1, "max_length": 64}, "validation_rewards/margins"),
        (reward, {"heldout": "other"}, "validation_accuracy"),
    ],
)
def test_pairs_are_held_out_and_measured(tmp_path, base, stage, extra, column):
    pairs(tmp_path, base)
    section = {"parent": "base", "data": "x", "lora": {"r": 2}, "validation": {"share": 0.25}, **extra}
    trainer = {**TRAINER, "max_steps": 3, "eval_strategy": "epoch", "load_best_model_at_end": True}
    params = fit(stage.Params, {**section, "trainer": trainer}, "x.chat")
    data = [tmp_path / "rows.jsonl"]
    if stage is reward:
        other = [{"prompt": user("Else?"), "chosen": assistant("yes"), "rejected": assistant("no, never")}]
        write_rows(tmp_path / "other.jsonl", other)
        data.append(tmp_path / "other.jsonl")
    outputs = [tmp_path / name for name in ("m/chat", "ledger.json", "curve.tsv")]
    outputs += [tmp_path / "heldout.json"] if stage is reward else []
    stage.main(params, base, base, *data, *outputs)
    ledger = json.loads((tmp_path / "ledger.json").read_text())
    assert (ledger["pairs"], ledger["validation_rows"], ledger["validation_prompts"]) == (9, 3, 3)
    last = curve(tmp_path / "curve.tsv")[-1]
    assert ledger["validation_loss"] > 0 and ledger["best_step"] == 3 and column in last
    assert last["validation_loss"] == pytest.approx(ledger["validation_loss"], abs=1e-4)


def test_distillation_measures_a_mean_over_tokens_whatever_the_batch(tmp_path, base):
    rows = [{"prompt": user(f"Say {n}."), "completion": assistant("x" * (1 + 3 * n))} for n in range(12)]
    write_rows(tmp_path / "rows.jsonl", rows)
    section = {"parent": "base", "teacher": "base", "data": "x", "split": None, "lora": None, "lmbda": 0, "beta": 0}
    sampled = {"temperature": 1.0, "sampling_temperature": 1.0, "max_new_tokens": 4, "max_length": 200}
    measured = []
    for size in (1, 5):
        trainer = {**TRAINER, "max_steps": 2, "per_device_eval_batch_size": size, "eval_strategy": "epoch"}
        whole = {**section, **sampled, "validation": {"prompts": 5}, "trainer": trainer}
        output = tmp_path / f"{size}/gkd/chat"
        paths = [tmp_path / "rows.jsonl", output, tmp_path / "ledger.json", tmp_path / "curve.tsv"]
        gkd.main(fit(gkd.Params, whole, "gkd.chat"), base, base, base, *paths)
        measured.append(json.loads((tmp_path / "ledger.json").read_text()))
    assert [(one["rows"], one["validation_rows"]) for one in measured] == [(7, 5)] * 2
    assert measured[0]["validation_loss"] == pytest.approx(measured[1]["validation_loss"], abs=2e-4) != 0
