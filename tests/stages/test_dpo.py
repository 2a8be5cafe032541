import math

import pytest

from conftest import assistant, user
from ladder.models import read_rung
from ladder.rows import read_rows, write_rows
from ladder.run import Refused
from stages import dpo, reference

TRAINER = {
    "beta": 0.5,
    "max_steps": 1,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-3,
    "bf16": False,
    "max_length": 64,
}


def pairs():
    return [
        {"id": str(n), "prompt": user(f"Say {n}."), "chosen": assistant(f"{n}!"), "rejected": assistant(f"{n} or so")}
        for n in range(4)
    ]


@pytest.fixture
def referenced(tmp_path, base):
    write_rows(tmp_path / "pairs.jsonl", pairs())
    params = reference.Params(model="base", data="preferences/chat")
    reference.main(params, tmp_path / "pairs.jsonl", base, base, tmp_path / "reference.jsonl")
    return read_rows(tmp_path / "reference.jsonl")


def first_loss(tmp_path, base, rows, **changed):
    write_rows(tmp_path / "rows.jsonl", rows)
    params = dpo.Params(parent="base", data="reference/chat", lora={"r": 2}, trainer={**TRAINER, **changed})
    outputs = [tmp_path / "models/dpo/chat", tmp_path / "chat.json", tmp_path / "chat.tsv"]
    dpo.main(params, base, base, tmp_path / "rows.jsonl", *outputs)
    header, point = (line.split("\t") for line in outputs[2].read_text().splitlines())
    return float(dict(zip(header, point, strict=True))["loss"])


def test_the_loss_begins_at_log_two(tmp_path, base, referenced):
    assert first_loss(tmp_path, base, referenced) == pytest.approx(math.log(2), abs=2e-3)
    rung = read_rung(tmp_path / "models/dpo/chat")
    assert (rung.method, rung.kind, rung.parents) == ("dpo", "adapter", {"base": read_rung(base).identity})


def test_the_loss_is_rafailovs_equation_7(tmp_path, base, referenced):
    # a reference that finds each chosen answer e^-2 and each rejected one e^1 times as likely: margin 2 + 1
    moved = [
        {**row, "ref_chosen_logps": row["ref_chosen_logps"] - 2, "ref_rejected_logps": row["ref_rejected_logps"] + 1}
        for row in referenced
    ]
    assert first_loss(tmp_path, base, moved) == pytest.approx(math.log(1 + math.exp(-0.5 * 3)), abs=2e-3)


def test_a_reference_of_another_model_is_refused(tmp_path, base, referenced):
    with pytest.raises(Refused, match="rows.jsonl: made with another model than base as it is now"):
        first_loss(tmp_path, base, [{**row, "reference": "0" * 64} for row in referenced])


def test_pairs_that_do_not_fit_are_refused(tmp_path, base, referenced):
    with pytest.raises(Refused, match="none of 4 pairs fits trainer.max_length 5"):
        first_loss(tmp_path, base, referenced, max_length=5)
