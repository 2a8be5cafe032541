import csv
import json
import math

import pytest

from conftest import assistant, user
from ladder.data.jsonl import write_rows
from ladder.models.checkpoint import load, read_rung
from ladder.models.scoring import completion_logps
from ladder.pipeline.stage import UserError
from ladder.training.pair_examples import all_pair_tokens
from stages.orpo import Params, main

TRAINER = {"max_steps": 1, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "bf16": False}
PAIRS = [
    {"id": str(n), "prompt": user(f"Say {n}."), "chosen": assistant(f"{n}!"), "rejected": assistant(f"{n} or so")}
    for n in range(4)
]


def climb(folder, base, rows, *, lora=None, max_length=64, **trainer):
    write_rows(folder / "pairs.jsonl", rows)
    settings = {"lora": lora, "beta": 0.5, "max_length": max_length, "trainer": {**TRAINER, **trainer}}
    outputs = [folder / "models/orpo/chat", folder / "chat.json", folder / "chat.tsv"]
    main(Params(parent="base", data="x", **settings), base, base, folder / "pairs.jsonl", *outputs)
    return list(csv.DictReader(outputs[2].open(), delimiter="\t"))


def test_the_first_loss_is_equation_6_on_the_parents_log_probabilities(tmp_path, base):
    (point,) = climb(tmp_path, base, PAIRS, lora={"r": 2})
    model = load(base, base)
    losses, ratios = [], []
    for pair in all_pair_tokens(model.tokenizer, PAIRS, base):
        chosen, rejected = (
            math.exp(completion_logps(model, [pair["prompt_ids"]], [pair[name]])[0] / len(pair[name]))
            for name in ("chosen_ids", "rejected_ids")
        )
        ratios.append(math.log(chosen / (1 - chosen) / (rejected / (1 - rejected))))
        losses.append(-math.log(chosen) + 0.5 * math.log(1 + math.exp(-ratios[-1])))
    assert float(point["loss"]) == pytest.approx(sum(losses) / 4, abs=5e-3)
    assert float(point["rewards/margins"]) == pytest.approx(sum(ratios) / 4, abs=5e-3)


def test_it_learns_the_chosen_answer_as_well_as_the_order(tmp_path, base):
    points = climb(tmp_path, base, PAIRS, max_steps=6, lr_scheduler_type="constant", learning_rate=3e-3)
    first, last = points[0], points[-1]
    assert float(last["logps/chosen"]) > float(first["logps/chosen"])
    assert float(last["rewards/margins"]) > float(first["rewards/margins"])
    rung, metrics = read_rung(tmp_path / "models/orpo/chat"), json.loads((tmp_path / "chat.json").read_text())
    assert (rung.method, rung.kind, rung.parents) == ("orpo", "complete", {"base": read_rung(base).identity})
    assert {"loss", "accuracy", "margin", "pairs", "too_long"} <= metrics.keys()


def test_pairs_that_do_not_fit_are_refused(tmp_path, base):
    with pytest.raises(UserError, match="none of 4 pairs fits max_length 5"):
        climb(tmp_path, base, PAIRS, max_length=5)
