import json

import pytest
import torch

from ladder.data.jsonl import write_rows
from ladder.models.checkpoint import load, read_rung
from ladder.pipeline.stage import UserError
from stages import sft
from stages.prune_layers import Params, main


def cut(tmp_path, base, dropped):
    output = tmp_path / "models" / "prune_layers" / "small"
    main(Params(parent="base", drop_layers=dropped), base, base, output, tmp_path / "small.json")
    return output


def test_a_student_is_a_complete_rung_with_fewer_layers(tmp_path, base):
    output = cut(tmp_path, base, [1])
    rung, student = read_rung(output), load(output, base).model
    assert (rung.rung, rung.method, rung.kind, rung.base) == ("prune_layers/small", "prune_layers", "complete", None)
    assert rung.parents == {"base": read_rung(base).identity}
    assert rung.trainable_parameters == 0
    # a layer: 32x32 queries and outputs, 32x16 keys and values, three 32x64 of the MLP, two norms
    assert read_rung(base).parameters - rung.parameters == 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64 + 2 * 32
    assert (student.config.num_hidden_layers, student.config.kept_layers) == (1, [0])
    assert student.generate(torch.tensor([[5, 6]]), max_new_tokens=3, min_new_tokens=3, do_sample=False).shape == (1, 5)
    metrics = json.loads((tmp_path / "small.json").read_text())
    assert (metrics["layers"], metrics["layers_of_parent"]) == (1, 2)


def test_a_student_is_fine_tuned_with_all_its_weights(tmp_path, base, rows):
    """Response distillation: rows that the teacher answered, and the stage sft."""
    student = cut(tmp_path, base, [0])
    write_rows(tmp_path / "rows.jsonl", rows)
    trainer = {"max_steps": 1, "per_device_train_batch_size": 4, "bf16": False}
    params = sft.Params.model_validate(
        {"parent": "prune_layers/small", "data": "rows", "lora": None, "trainer": trainer}
    )
    outputs = [tmp_path / "models/sft/small", tmp_path / "masks.txt", tmp_path / "sft.json", tmp_path / "sft.tsv"]
    sft.main(params, student, base, tmp_path / "rows.jsonl", *outputs)
    rung = read_rung(outputs[0])
    assert (rung.kind, rung.parents) == ("complete", {"prune_layers/small": read_rung(student).identity})
    assert load(outputs[0], base).model.config.kept_layers == [1]


def test_a_layer_that_is_not_there_is_named(tmp_path, base):
    with pytest.raises(UserError, match=r"drop_layers: expected layers from 0 to 1, got \[2\]"):
        cut(tmp_path, base, [2])
