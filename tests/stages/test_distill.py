import json

import pytest

from conftest import assistant, user
from ladder.data.jsonl import write_rows
from ladder.models.checkpoint import load, read_rung, save_rung
from ladder.pipeline.stage import UserError
from perf.pico import pico_model, pico_tokenizer
from stages import distill, divergence, teacher_logits
from torch_helpers import smaller

TRAINER = {"max_steps": 6, "per_device_train_batch_size": 6, "learning_rate": 3e-3, "bf16": False}


@pytest.fixture
def small(tmp_path, base):
    return smaller(tmp_path, base)


def taught(tmp_path, base, rows, **changed):
    write_rows(tmp_path / "rows.jsonl", rows)
    settings = {"temperature": 2.0, "top_k": 8, "samples": 40, "max_length": 64, "seed": 0, "split": None, **changed}
    params, output = teacher_logits.Params(model="base", data="filter", **settings), tmp_path / "small.safetensors"
    teacher_logits.main(params, tmp_path / "rows.jsonl", base, base, output, tmp_path / "teacher.json")
    return output


def train(tmp_path, parent, base, teacher_directory, data, name="small", alpha=0.5, **changed):
    params = distill.Params(
        parent="prune_layers/small",
        teacher="base",
        data="teacher_logits/small",
        alpha=alpha,
        trainer={**TRAINER, **changed},
    )
    outputs = [tmp_path / "models/distill" / name, tmp_path / f"{name}.json", tmp_path / f"{name}.tsv"]
    distill.main(params, parent, base, teacher_directory, data, *outputs)
    return outputs


def curve(path, column):
    header, *points = (line.split("\t") for line in path.read_text().splitlines())
    return [float(point[header.index(column)]) for point in points]


def heldout(tmp_path, base, rung):
    """Mean KL from the teacher in nats per token, on rows that no student was trained on."""
    rows = [{"prompt": user(f"Say {n}."), "completion": assistant(f"It is {n}{n}.")} for n in range(20, 26)]
    write_rows(tmp_path / "heldout.jsonl", rows)
    params = divergence.Params(data="heldout", split=None, teacher="base")
    outputs = [tmp_path / "heldout.kl.jsonl", tmp_path / "heldout.json", tmp_path / "metrics.json"]
    divergence.main(params, tmp_path / "heldout.jsonl", base, rung, base, *outputs)
    return json.loads(outputs[1].read_text())["kl"]


@pytest.mark.parametrize("samples", [0, 40])
def test_a_distilled_student_is_nearer_to_its_teacher_than_a_fine_tuned_one(tmp_path, base, rows, small, samples):
    data = taught(tmp_path, base, rows, samples=samples)
    output, _, points = train(tmp_path, small, base, base, data, alpha=0.0)
    fine_tuned = train(tmp_path, small, base, base, data, name="words", alpha=1.0)[0]
    rung = read_rung(output)
    assert (rung.kind, rung.method, rung.trainable_parameters) == ("complete", "distill", rung.parameters)
    assert rung.parents == {"prune_layers/small": read_rung(small).identity, "base": read_rung(base).identity}
    divergences = curve(points, "kl")
    assert divergences[-1] < divergences[0]
    assert heldout(tmp_path, base, output) < heldout(tmp_path, base, small)
    assert heldout(tmp_path, base, output) < heldout(tmp_path, base, fine_tuned)


def test_accumulated_batches_are_one_larger_batch(tmp_path, base, rows, small):
    rows = [{**row, "completion": assistant("x" * (1 + 3 * n))} for n, row in enumerate(rows)]  # different lengths
    data = taught(tmp_path, base, rows)
    _, _, whole = train(tmp_path, small, base, base, data, name="whole")
    parts = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3}
    _, _, accumulated = train(tmp_path, small, base, base, data, name="parts", **parts)
    for column in ("loss", "grad_norm", "kl", "cross_entropy"):
        assert curve(accumulated, column) == pytest.approx(curve(whole, column), rel=1e-3)


def test_the_loss_is_made_of_its_parts(tmp_path, base, rows, small):
    _, _, points = train(tmp_path, small, base, base, taught(tmp_path, base, rows), alpha=0.3)
    parts = zip(curve(points, "loss"), curve(points, "cross_entropy"), curve(points, "kl"), strict=True)
    for loss, cross_entropy, kl in parts:
        assert loss == pytest.approx(0.3 * cross_entropy + 0.7 * 2.0**2 * kl, rel=1e-3)


def test_the_same_inputs_give_the_same_bytes(tmp_path, base, rows, small):
    data = taught(tmp_path, base, rows)
    first = read_rung(train(tmp_path, small, base, base, data)[0]).identity
    assert read_rung(train(tmp_path, small, base, base, data)[0]).identity == first
    assert load(tmp_path / "models/distill/small", base).model.config.num_hidden_layers == 1


def test_targets_of_another_teacher_are_refused(tmp_path, base, rows, small):
    tokenizer = pico_tokenizer()
    save_rung(tmp_path / "other", pico_model(tokenizer, seed=3), tokenizer, rung="other", method="sft")
    with pytest.raises(UserError, match="small.safetensors: made with another version of other"):
        train(tmp_path, small, base, tmp_path / "other", taught(tmp_path, base, rows))
