import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from ladder.data.jsonl import write_rows
from ladder.models.checkpoint import load, read_rung, save_rung
from ladder.pipeline.stage import UserError
from perf.pico import pico_model, pico_tokenizer
from stages import distill_features, divergence, prune_layers

TRAINER = {"max_steps": 8, "per_device_train_batch_size": 6, "learning_rate": 3e-3, "bf16": False}
PARAMS = {
    "parent": "prune_layers/small",
    "teacher": "teacher",
    "data": "rows",
    "split": None,
    "layers": None,
    "cross_entropy": 0.0,
    "kl": 1.0,
    "hidden": 1.0,
    "attention": 1.0,
    "temperature": 1.0,
    "max_length": 64,
}


@pytest.fixture
def teacher(tmp_path):
    """A teacher with four layers; the student keeps the first and the last."""
    tokenizer = pico_tokenizer()
    save_rung(tmp_path / "teacher", pico_model(tokenizer, layers=4, seed=1), tokenizer, rung="teacher", method="sft")
    return tmp_path / "teacher"


@pytest.fixture
def small(tmp_path, teacher):
    output = tmp_path / "models" / "prune_layers" / "small"
    params = prune_layers.Params(parent="teacher", drop_layers=[1, 2])
    prune_layers.main(params, teacher, teacher, output, tmp_path / "student.json")
    return output


def train(tmp_path, parent, teacher, rows, name="small", **changed):
    write_rows(tmp_path / "rows.jsonl", rows)
    params = distill_features.Params.model_validate({**PARAMS, "trainer": TRAINER, **changed})
    outputs = [tmp_path / "models/distill_features" / name, tmp_path / f"{name}.json", tmp_path / f"{name}.tsv"]
    distill_features.main(params, parent, teacher, teacher, tmp_path / "rows.jsonl", *outputs)
    header, *points = (line.split("\t") for line in outputs[2].read_text().splitlines())
    return outputs[0], [{name: float(value) for name, value in zip(header, point, strict=True)} for point in points]


def dense_kl(tmp_path, teacher, rung, rows):
    write_rows(tmp_path / "heldout.jsonl", rows)
    params = divergence.Params(data="heldout", split=None, teacher="teacher")
    outputs = [tmp_path / "heldout.kl.jsonl", tmp_path / "heldout.json", tmp_path / "metrics.json"]
    divergence.main(params, tmp_path / "heldout.jsonl", teacher, rung, teacher, *outputs)
    return json.loads(outputs[1].read_text())["kl"]


def test_distances_by_hand():
    ours, theirs = torch.tensor([[1.0, 2.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert distill_features.hidden_distance(ours, theirs).item() == pytest.approx(4 / 1 + 1 / 4)
    # one token, two heads: squares 0.04 + 0.04 and 0.01 + 0.01
    ours = torch.tensor([[[0.7, 0.3, 0.0], [0.6, 0.4, 0.0]]])
    theirs = torch.tensor([[[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]]])
    assert distill_features.attention_distance(ours, theirs).item() == pytest.approx((0.08 + 0.02) / 2)


def test_features_come_nearer_and_the_projections_are_thrown_away(tmp_path, teacher, small, rows):
    output, points = train(tmp_path, small, teacher, rows)
    for part in ("loss", "kl", "hidden", "attention"):
        assert points[-1][part] < points[0][part]
    rung = read_rung(output)
    assert (rung.method, rung.kind) == ("distill_features", "complete")
    assert rung.settings["layers"] == {"0": 0, "1": 3}
    assert set(load_file(output / "model.safetensors")) == set(load_file(small / "model.safetensors"))
    assert load(output, teacher).model(torch.tensor([[1, 2]])).logits.isfinite().all()


def test_a_student_of_features_is_nearer_to_its_teacher_than_a_fine_tuned_one(tmp_path, teacher, small, rows):
    taught, _ = train(tmp_path, small, teacher, rows[:8], hidden=0.1)
    words, _ = train(
        tmp_path, small, teacher, rows[:8], name="words", cross_entropy=1.0, kl=0.0, hidden=0.0, attention=0.0
    )
    assert dense_kl(tmp_path, teacher, taught, rows[8:]) < dense_kl(tmp_path, teacher, words, rows[8:])


def test_a_student_that_is_its_teacher_has_nothing_to_learn(tmp_path, teacher, rows):
    _, points = train(tmp_path, teacher, teacher, rows, trainer={**TRAINER, "max_steps": 1})
    # the projections start as the identity; the teacher runs in bfloat16
    assert points[0]["hidden"] < 1e-3 and points[0]["attention"] < 1e-3 and points[0]["kl"] < 1e-2


def test_a_narrower_student_learns_through_projections(tmp_path, teacher, rows):
    tokenizer = pico_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig.from_pretrained(teacher, hidden_size=16, num_hidden_layers=2, head_dim=8)
    save_rung(tmp_path / "narrow", LlamaForCausalLM(config), tokenizer, rung="narrow", method="base")
    output, points = train(tmp_path, tmp_path / "narrow", teacher, rows)
    assert points[-1]["hidden"] < points[0]["hidden"]
    assert read_rung(output).settings["layers"] == {"0": 1, "1": 3}
    config = LlamaConfig.from_pretrained(teacher, num_attention_heads=8, head_dim=8)
    save_rung(tmp_path / "heads", LlamaForCausalLM(config), tokenizer, rung="heads", method="base")
    with pytest.raises(
        UserError,
        match="attention: expected equal numbers of heads, got 8 in prune_layers/small and 4 in teacher. Set it to 0",
    ):
        train(tmp_path, tmp_path / "heads", teacher, rows)


def test_a_map_out_of_range_is_refused(tmp_path, teacher, small, rows):
    with pytest.raises(UserError, match=r"layers: expected layers of the teacher from 0 to 3, got \[4\]"):
        train(tmp_path, small, teacher, rows, layers={0: 4})


def test_a_broken_training_goes_on_with_its_projections(tmp_path, teacher, small, rows, monkeypatch):
    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "work"))
    monkeypatch.setenv("LADDER_SAVE_SECONDS", "0")
    whole = read_rung(train(tmp_path, small, teacher, rows)[0]).files
    sums = distill_features.FeatureTrainer.sums

    def breaks(trainer, model, batch):
        if trainer.state.global_step == 4:
            raise KeyboardInterrupt
        return sums(trainer, model, batch)

    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(distill_features.FeatureTrainer, "sums", breaks)
        train(tmp_path, small, teacher, rows)
    assert list((tmp_path / "work").glob("*/checkpoint-4"))
    assert read_rung(train(tmp_path, small, teacher, rows)[0]).files == whole
