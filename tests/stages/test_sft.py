import json
import os
import subprocess
import sys

import pytest
import torch

from conftest import ROOT, assistant
from ladder.models import load, read_rung
from ladder.rows import write_rows
from ladder.run import Refused, fit
from stages.sft import Params, main

TRAINER = {"max_steps": 3, "per_device_train_batch_size": 4, "learning_rate": 0.01, "bf16": False}


def train(tmp_path, base, rows, name="chat", parent=None, **changed):
    write_rows(tmp_path / "rows.jsonl", rows)
    params = Params.model_validate(
        {"parent": "base", "data": "filter", "lora": {"r": 4}, "trainer": TRAINER, **changed}
    )
    output = tmp_path / "models" / "sft" / name
    paths = [tmp_path / f"{name}.txt", tmp_path / f"{name}.json", tmp_path / f"{name}.tsv"]
    main(params, parent or base, base, tmp_path / "rows.jsonl", output, *paths)
    return output


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
    with pytest.raises(Refused, match="lora: continue, but the parent base is complete"):
        train(tmp_path, base, rows, lora="continue")


def test_rows_that_do_not_fit_are_left_out_and_counted(tmp_path, base, rows):
    long = {**rows[0], "completion": assistant("x" * 200)}
    train(tmp_path, base, [*rows, long], trainer={**TRAINER, "max_length": 100})
    ledger = json.loads((tmp_path / "chat.json").read_text())
    assert (ledger["rows"], ledger["too_long"], ledger["parent"]) == (12, 1, "base")
    with pytest.raises(Refused, match="none of 12 rows fits trainer.max_length 9"):
        train(tmp_path, base, rows, trainer={**TRAINER, "max_length": 9})


def test_a_loss_that_is_no_number_stops_and_leaves_no_model(tmp_path, base, rows):
    with pytest.raises(Refused, match=r"step \d: (loss|grad_norm) is (nan|inf); lower trainer.learning_rate"):
        train(tmp_path, base, rows, trainer={**TRAINER, "learning_rate": 1e38, "max_grad_norm": 1e38})
    assert not (tmp_path / "models/sft/chat").exists()


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"trainer": {"learning_rte": 1}}, "sft.chat.trainer: SFTConfig has no argument 'learning_rte'"),
        ({"trainer": {"learning_rate": "fast"}}, "sft.chat.trainer: learning_rate: Input should be a valid number"),
        ({"lora": {"rank": 8}}, "sft.chat.lora: LoraConfig has no argument 'rank'"),
        ({"lora": 3}, "sft.chat.lora: expected arguments of LoraConfig"),
    ],
)
def test_what_trl_and_peft_do_not_know_is_named(section, said):
    whole = {"parent": "base", "data": "filter", "lora": None, "trainer": {}, **section}
    with pytest.raises(Refused) as refusal:
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
