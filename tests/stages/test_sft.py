import json
import os
import subprocess
import sys

import bitsandbytes
import pytest
import torch
from safetensors.torch import load_file
from trl import SFTConfig

from conftest import ROOT, assistant, user
from ladder.data.jsonl import write_rows
from ladder.models.checkpoint import load, read_rung
from ladder.pipeline.stage import UserError, fit
from perf.pico import pico_tokenizer
from stages.sft import Params, dataset, main, token_rows

TRAINER = {"max_steps": 3, "per_device_train_batch_size": 4, "learning_rate": 0.01, "bf16": False}


def train(tmp_path, base, rows, name="chat", parent=None, **changed):
    write_rows(tmp_path / "rows.jsonl", rows)
    section = {"parent": "base", "data": "filter", "lora": {"r": 4}, "trainer": TRAINER, **changed}
    params = fit(Params, section, "sft.chat")
    output = tmp_path / "models" / "sft" / name
    paths = [tmp_path / f"{name}.txt", tmp_path / f"{name}.json", tmp_path / f"{name}.tsv"]
    main(params, parent or base, base, tmp_path / "rows.jsonl", output, *paths)
    return output


def first_step(tmp_path, name="chat"):
    """The trainer's log of step 1."""
    header, point, *_ = (line.split("\t") for line in (tmp_path / f"{name}.tsv").read_text().splitlines())
    return dict(zip(header, map(float, point), strict=True))


def test_adapter(tmp_path, base, rows):
    output = train(tmp_path, base, rows)
    rung = read_rung(output)
    assert (rung.rung, rung.kind, rung.parents) == ("sft/chat", "adapter", {"base": read_rung(base).identity})
    assert rung.trainable_parameters == 4 * 2 * (4 * (32 + 32) - 2 * 16 + 3 * (32 + 64))
    curve = (tmp_path / "chat.tsv").read_text().splitlines()
    assert curve[0].split("\t")[0] == "step" and [line.split("\t")[0] for line in curve[1:]] == ["1", "2", "3"]
    assert load(output, base).model(torch.tensor([[1, 2, 3]])).logits.isfinite().all()
    assert "⟦It is 00.<|im_end|>⟧" in (tmp_path / "chat.txt").read_text()


def test_all_weights_of_an_adapters_parent(tmp_path, base, rows):
    adapter = train(tmp_path, base, rows)
    output = train(tmp_path, base, rows, name="full", parent=adapter, lora=None)
    rung = read_rung(output)
    assert (rung.kind, rung.base, rung.trainable_parameters) == ("complete", None, read_rung(base).parameters)
    assert rung.parents == {"sft/chat": read_rung(adapter).identity}


def test_an_adapter_goes_on_or_is_folded_in(tmp_path, base, rows):
    adapter = train(tmp_path, base, rows)
    further = read_rung(train(tmp_path, base, rows, name="further", parent=adapter, lora="continue"))
    fresh = read_rung(train(tmp_path, base, rows, name="fresh", parent=adapter, lora={"r": 2}))
    assert (further.kind, further.base) == ("adapter", read_rung(base).identity)
    assert (fresh.kind, fresh.base) == ("complete", None)
    with pytest.raises(UserError, match="lora: continue needs an adapter, but the parent base is complete"):
        train(tmp_path, base, rows, lora="continue")


def test_rows_that_do_not_fit_are_left_out_and_counted(tmp_path, base, rows):
    long = {**rows[0], "completion": assistant("x" * 200)}
    train(tmp_path, base, [*rows, long], trainer={**TRAINER, "max_length": 100})
    ledger = json.loads((tmp_path / "chat.json").read_text())
    assert (ledger["rows"], ledger["too_long"], ledger["parent"]) == (12, 1, "base")
    with pytest.raises(UserError, match="none of 12 rows fits max_length 9"):
        train(tmp_path, base, rows, trainer={**TRAINER, "max_length": 9})


def test_a_loss_that_is_no_number_stops_and_leaves_no_model(tmp_path, base, rows):
    with pytest.raises(
        UserError, match=r"step \d: expected a finite (loss|grad_norm), got (nan|inf). Lower trainer.learning_rate"
    ):
        train(tmp_path, base, rows, trainer={**TRAINER, "learning_rate": 1e38, "max_grad_norm": 1e38})
    assert not (tmp_path / "models/sft/chat").exists()


def test_packed_rows_give_the_loss_of_lone_ones(tmp_path, base, rows):
    # all weights in float32, and all twelve rows in one step either way
    whole = {**TRAINER, "max_steps": 1, "per_device_train_batch_size": 12, "max_length": 128}
    alone = read_rung(train(tmp_path, base, rows, lora=None, trainer=whole))
    fewer = {**whole, "packing": True, "per_device_train_batch_size": 4}  # with three conversations each
    packed = read_rung(train(tmp_path, base, rows, name="packed", lora=None, trainer=fewer))
    for name in ("loss", "grad_norm", "mean_token_accuracy", "num_tokens"):
        assert first_step(tmp_path, "packed")[name] == pytest.approx(first_step(tmp_path)[name], rel=1e-4)
    assert packed.files["config.json"] == alone.files["config.json"]


def test_packed_rows_hold_whole_conversations(rows):
    learned = token_rows(rows, "rows.jsonl", pico_tokenizer(), None)
    lengths = sorted(len(row["input_ids"]) for row in learned)
    config = SFTConfig(packing=True, max_length=128, bf16=False, use_cpu=True)
    packed = dataset(learned, config)
    assert len(packed) < len(learned)
    assert sorted(length for row in packed for length in row["seq_lengths"]) == lengths
    assert all(sum(row["seq_lengths"]) == len(row["input_ids"]) == len(row["labels"]) <= 128 for row in packed)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"packing_strategy": "wrapped"}, "packing_strategy: expected one of bfd"),
        ({"max_length": None}, "expected a number for max_length, got null"),
    ],
)
def test_packing_that_would_cut_or_has_no_length_is_refused(tmp_path, base, rows, changed, said):
    with pytest.raises(UserError, match=said):
        train(tmp_path, base, rows, trainer={**TRAINER, "packing": True, **changed})


def test_lora_plus_gives_b_its_own_rate(tmp_path, base, rows):
    # Adam's first step is the learning rate itself, whatever the gradient; A's gradient is zero while B is zero
    one_step = {**TRAINER, "max_steps": 1, "learning_rate": 1e-3, "adam_epsilon": 1e-30}
    for ratio, rate in ((None, 1e-3), (16, 16e-3)):
        output = train(tmp_path, base, rows, lora_plus=ratio, trainer=one_step)
        weights = load_file(output / "adapter_model.safetensors")
        moved = torch.cat([weight.abs().flatten() for name, weight in weights.items() if "lora_B" in name])
        assert moved.max().item() == pytest.approx(rate, rel=1e-4)
    with pytest.raises(UserError, match="lora_plus: no adapter"):
        train(tmp_path, base, rows, lora=None, lora_plus=16)


def test_a_quantized_base_under_the_adapter(tmp_path, base, rows):
    nf4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16"}
    # packed, because the isolation check must not leave 4-bit weights as evaluation would repack them
    slow = {**TRAINER, "learning_rate": 1e-5, "packing": True, "max_length": 128}
    output = train(tmp_path, base, rows, quantization=nf4, trainer=slow)
    train(tmp_path, base, rows, name="plain", trainer=slow)
    # a different but similar model: rounding changes the loss at the first step by less than a tenth
    assert 1e-3 < abs(first_step(tmp_path)["loss"] / first_step(tmp_path, "plain")["loss"] - 1) < 0.1
    rung = read_rung(output)
    assert (rung.kind, rung.base, rung.quantization) == ("adapter", read_rung(base).identity, nf4)
    weights = load_file(output / "adapter_model.safetensors")
    # TRL would have rounded them to bfloat16, where a step of 1e-5 leaves most weights unchanged
    assert all(not torch.equal(weight, weight.bfloat16().float()) for weight in weights.values())
    # it runs on the weights that it was trained on, and so does an adapter that continues it
    further = train(tmp_path, base, rows, name="further", parent=output, lora="continue", trainer=slow)
    assert read_rung(further).quantization == nf4
    path = "model.layers.0.mlp.down_proj"
    packed, state = bitsandbytes.functional.quantize_4bit(
        load(base, base).model.get_submodule(path).weight.data, quant_type="nf4"
    )
    for trained in (output, further):
        weight = load(trained, base).model.get_base_model().get_submodule(path).base_layer.weight
        assert torch.equal(weight, bitsandbytes.functional.dequantize_4bit(packed, state))
    assert "quantization" not in json.loads((base / "rung.json").read_text())


def test_dora_learns_magnitudes(tmp_path, base, rows):
    output = train(tmp_path, base, rows, lora={"r": 4, "use_dora": True})
    rung = read_rung(output)
    rows_of_weights = 2 * (32 + 16 + 16 + 32 + 64 + 64 + 32)
    assert rung.trainable_parameters == 4 * 2 * (4 * (32 + 32) - 2 * 16 + 3 * (32 + 64)) + rows_of_weights
    assert set(load_file(output / "adapter_model.safetensors")) >= {
        "base_model.model.model.layers.0.mlp.down_proj.lora_magnitude_vector"
    }


def test_rows_longer_than_the_context_and_rows_without_an_answer_are_counted(tmp_path, base, rows, capsys):
    long = {"prompt": user("x" * 5000), "completion": assistant("4")}  # the pico model reads 4096 tokens
    empty = {"prompt": user("And?"), "completion": assistant(" \n")}
    for max_length in (6000, None):
        train(tmp_path, base, [*rows, long, empty], trainer={**TRAINER, "max_length": max_length})
        measured = json.loads((tmp_path / "chat.json").read_text())
        assert (measured["rows"], measured["too_long"], measured["empty_answers"]) == (len(rows), 1, 1)
    assert "sft: empty_answers: 1 left out" in capsys.readouterr().err
    with pytest.raises(UserError, match="nothing to learn: the answer of all 8 rows is empty after rendering"):
        train(tmp_path, base, [empty] * 8)
    with pytest.raises(UserError, match="none of 8 rows fits max_length 4096 or the length of the model's context"):
        train(tmp_path, base, [long] * 8, trainer={**TRAINER, "max_length": 6000})


def test_weights_that_do_not_change_are_no_rung(tmp_path, base, rows):
    still = {**TRAINER, "max_steps": 1, "learning_rate": 1e-60}
    with pytest.raises(
        UserError, match="no weight differs from its parent's after 1 steps.*Raise trainer.learning_rate"
    ):
        train(tmp_path, base, rows, lora=None, trainer=still)
    assert not (tmp_path / "models/sft/chat").exists()


def test_noise_on_the_embeddings_is_not_in_the_rung(tmp_path, base, rows):
    one_step = {
        **TRAINER,
        "max_steps": 1,
        "learning_rate": 1e-4,
    }  # far below the noise, and above bfloat16's resolution
    noisy = train(tmp_path, base, rows, lora=None, trainer={**one_step, "neftune_noise_alpha": 5})
    train(tmp_path, base, rows, name="plain", lora=None, trainer=one_step)
    assert abs(first_step(tmp_path)["loss"] - first_step(tmp_path, "plain")["loss"]) > 1e-3
    for name, weight in load(noisy, base).model.named_parameters():
        assert torch.allclose(weight, load(base, base).model.get_parameter(name), atol=2e-3, rtol=0.01)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"trainer": {"learning_rte": 1}}, "sft.chat.trainer: learning_rte: no such argument of SFTConfig"),
        ({"trainer": {"learning_rate": "fast"}}, "sft.chat.trainer: learning_rate: expected a valid number"),
        ({"lora": {"rank": 8}}, "sft.chat.lora: rank: no such argument of LoraConfig"),
        ({"lora": 3}, "sft.chat.lora: expected arguments of LoraConfig"),
        ({"quantization": {"nf4": True}}, "sft.chat.quantization: nf4: no such argument of BitsAndBytesConfig"),
        ({"lora_plus": 0.5}, "sft.chat.lora_plus: expected a value greater than or equal to 1"),
    ],
)
def test_what_trl_and_peft_do_not_know_is_named(section, said):
    whole = {"parent": "base", "data": "filter", "lora": None, "trainer": {}, **section}
    with pytest.raises(UserError) as refusal:
        fit(Params, whole, "sft.chat")
    assert said in str(refusal.value)


def test_two_processes_give_the_same_bytes(tmp_path, base, rows):
    write_rows(tmp_path / "rows.jsonl", rows)
    trainer = {"max_steps": 2, "per_device_train_batch_size": 4}
    section = {"parent": "base", "data": "filter", "lora": {"r": 4}, "trainer": trainer}
    (tmp_path / "params.yaml").write_text(json.dumps({"sft": {"chat": section}}))
    (tmp_path / "stages").symlink_to(ROOT / "stages")
    made = []
    for seed in ("1", "2"):
        output = tmp_path / seed / "sft/chat"
        paths = [base, base, tmp_path / "rows.jsonl", output, *(tmp_path / f"{seed}.{end}" for end in ("a", "b", "c"))]
        subprocess.run(
            [sys.executable, "-m", "stages.sft", "chat", *map(str, paths)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        )
        made.append({path.name: path.read_bytes() for path in output.iterdir()})
        made[-1]["curve"] = (tmp_path / f"{seed}.c").read_bytes()
    assert len(made[0]) >= 6 and all(made[0].values())
    assert made[0] == made[1]
