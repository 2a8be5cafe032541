import csv
import json
import math

import pytest

from conftest import PAIRS, assistant, user
from ladder.data.jsonl import read_rows, write_rows
from ladder.models.checkpoint import read_rung
from ladder.pipeline.stage import UserError
from stages import kto, reference_logprobs

TRAINER = {
    "beta": 0.5,
    "max_steps": 1,
    "per_device_train_batch_size": 8,
    "learning_rate": 1e-2,
    "bf16": False,
    "max_length": 64,
}


FEEDBACK = [
    {"prompt": user(f"Say {n}."), "completion": assistant(f"{n}!" if n < 3 else "No."), "label": n < 3}
    for n in range(5)
]


@pytest.fixture
def feedback(tmp_path, base):
    write_rows(tmp_path / "feedback.jsonl", FEEDBACK)
    params = reference_logprobs.Params(model="base", data="source/feedback")
    reference_logprobs.main(params, tmp_path / "feedback.jsonl", base, base, tmp_path / "reference.jsonl")
    return read_rows(tmp_path / "reference.jsonl")


def climb(tmp_path, base, rows, *, lora=None, **changed):
    write_rows(tmp_path / "rows.jsonl", rows)
    params = kto.Params(parent="base", data="reference_logprobs/chat", lora=lora, trainer={**TRAINER, **changed})
    outputs = [tmp_path / "models/kto/chat", tmp_path / "chat.json", tmp_path / "chat.tsv"]
    kto.main(params, base, base, tmp_path / "rows.jsonl", *outputs)
    return list(csv.DictReader(outputs[2].open(), delimiter="\t"))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_the_loss_is_ethayarajhs_equation_8(tmp_path, base, referenced):
    # a reference under which each chosen answer is e^-2 and each rejected one e^1 times as likely; z0 is 0 at the start
    moved = [
        {**row, "ref_chosen_logps": row["ref_chosen_logps"] - 2, "ref_rejected_logps": row["ref_rejected_logps"] + 1}
        for row in referenced
    ]
    (point,) = climb(tmp_path, base, moved, lora={"r": 2}, desirable_weight=1.5)
    expected = (1.5 * (1 - sigmoid(0.5 * 2)) + (1 - sigmoid(0.5 * 1))) / 2
    assert float(point["loss"]) == pytest.approx(expected, abs=2e-3)
    assert float(point["kl"]) == pytest.approx(0, abs=2e-2)
    assert float(point["rewards/margins"]) == pytest.approx(0.5 * 3, abs=5e-3)


def test_it_learns_and_says_how_far_it_drifted(tmp_path, base, referenced):
    points = climb(
        tmp_path, base, referenced, lora={"r": 4}, max_steps=8, lr_scheduler_type="constant", learning_rate=3e-2
    )
    assert float(points[0]["loss"]) == pytest.approx(0.5, abs=2e-3)
    assert float(points[-1]["loss"]) < 0.49
    rung, metrics = read_rung(tmp_path / "models/kto/chat"), json.loads((tmp_path / "chat.json").read_text())
    assert (rung.method, rung.kind, rung.parents) == ("kto", "adapter", {"base": read_rung(base).identity})
    assert sorted(path.name for path in (tmp_path / "models/kto/chat").glob("*.safetensors")) == [
        "adapter_model.safetensors"
    ]
    assert {"loss", "margin", "kl", "pairs", "too_long"} <= metrics.keys()


def test_all_weights_and_a_loss_without_z0(tmp_path, base, referenced):
    (point,) = climb(tmp_path, base, referenced, loss_type="apo_zero_unpaired")
    assert float(point["loss"]) == pytest.approx(0.5, abs=5e-3)
    assert read_rung(tmp_path / "models/kto/chat").kind == "complete"


def tokenized(number, prompt):
    return {
        "prompt_ids": prompt,
        "chosen_ids": [number, 1],
        "rejected_ids": [number, 2],
        "ref_chosen_logps": -1.0 * number,
        "ref_rejected_logps": -2.0 * number,
    }


def test_each_answer_is_one_row_and_good_and_bad_alternate():
    rows = kto.unpaired([tokenized(n, [n]) for n in range(5)], seed=3)
    assert [row["label"] for row in rows] == [True, False] * 5
    expected = {(n, good): (-1.0 if good else -2.0) * n for n in range(5) for good in (True, False)}
    assert {(row["completion_ids"][0], row["label"]): row["ref_logps"] for row in rows} == expected
    assert all(good["prompt_ids"] != bad["prompt_ids"] for good, bad in zip(rows[::2], rows[1::2], strict=True))


def test_the_answer_that_z0_is_measured_on_is_anothers():
    rows = [
        {"prompt_ids": prompt, "completion_ids": answer}
        for prompt, answer in (([7], [1]), ([7], [2]), ([8], [3, 3]), ([8, 8], [4]))
    ]
    assert kto.mismatched(rows, None) == [[4], [4], [2], [3, 3]]
    assert kto.mismatched(rows, 3) == [[4], [4], [2], [3]]
    with pytest.raises(UserError, match="pairs of at least two prompts"):
        kto.mismatched(rows[:2], None)


@pytest.mark.parametrize(
    ("row", "changed", "sentence"),
    [
        ({"reference": "0" * 64}, {}, "rows.jsonl: row 2: made with another version of base"),
        ({"ref_chosen_logps": None}, {}, "rows.jsonl: row 2: expected 'ref_chosen_logps' of type float, got None"),
        ({}, {"per_device_train_batch_size": 1}, "per_device_train_batch_size: expected 2 or more"),
        ({}, {"max_length": 5}, "none of 4 pairs fits max_length 5"),
    ],
)
def test_what_it_cannot_learn_from_is_refused(tmp_path, base, referenced, row, changed, sentence):
    rows = [referenced[0], {**referenced[1], **row}, *referenced[2:]]
    with pytest.raises(UserError, match=sentence):
        climb(tmp_path, base, rows, **changed)


def test_unpaired_preferences_have_the_loss_of_equation_8(tmp_path, base, feedback):
    weights = {"desirable_weight": 1.5, "undesirable_weight": 2.0, "per_device_train_batch_size": 5}
    # r is 2 for each good answer and -1 for each bad one; z0 is 0 at the start
    moved = [
        {**row, "ref_completion_logps": row["ref_completion_logps"] + (-2 if row["label"] else 1)} for row in feedback
    ]
    (point,) = climb(tmp_path, base, moved, lora={"r": 2}, **weights)
    expected = (3 * 1.5 * (1 - sigmoid(0.5 * 2)) + 2 * 2.0 * (1 - sigmoid(0.5 * 1))) / 5
    assert float(point["loss"]) == pytest.approx(expected, abs=3e-3)
    metrics = json.loads((tmp_path / "chat.json").read_text())
    assert (metrics["good"], metrics["bad"], metrics["too_long"]) == (3, 2, 0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda rows: rows[:3], "rows.jsonl: expected good and bad answers.*, got 3 good and 0 bad ones"),
        (lambda rows: [*rows, {**PAIRS[0], "reference": rows[0]["reference"]}], "row 6: expected all rows to be pairs"),
        (lambda rows: [{**row, "reference": "0" * 64} for row in rows], "row 1: made with another version of base"),
        (lambda rows: [{**row, "label": "good"} for row in rows], "row 1: label: expected true or false, got 'good'"),
    ],
)
def test_unpaired_preferences_that_it_cannot_learn_from_are_refused(tmp_path, base, feedback, change, sentence):
    with pytest.raises(UserError, match=sentence):
        climb(tmp_path, base, change(feedback))
