import torch

from ladder.models import load, read_rung
from ladder.rows import write_rows
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
