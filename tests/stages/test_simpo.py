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
from stages.simpo import Params, main

TRAINER = {"max_steps": 1, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "bf16": False}
PAIRS = [
    {"id": str(n), "prompt": user(f"Say {n}."), "chosen": assistant(f"{n}!"), "rejected": assistant(f"{n} or so")}
    for n in range(4)
]


def climb(folder, base, rows, *, lora=None, max_length=64, **trainer):
    write_rows(folder / "pairs.jsonl", rows)
    params = Params(
        parent="base",
        data="preferences/chat",
        lora=lora,
        beta=2.0,
        gamma=0.5,
        max_length=max_length,
        trainer={**TRAINER, **trainer},
    )
    outputs = [folder / "models/simpo/chat", folder / "chat.json", folder / "chat.tsv"]
    main(params, base, base, folder / "pairs.jsonl", *outputs)
    return list(csv.DictReader(outputs[2].open(), delimiter="\t"))


def mean_logps(base, rows):
    """Each answer's mean log-probability from the stage reference: [(chosen, rejected)]."""
    model = load(base, base)
    pairs = all_pair_tokens(model.tokenizer, rows, base)
    prompts = [pair["prompt_ids"] for pair in pairs]
    chosen, rejected = (
        [
            logp / len(pair[name])
            for logp, pair in zip(completion_logps(model, prompts, [pair[name] for pair in pairs]), pairs, strict=True)
        ]
        for name in ("chosen_ids", "rejected_ids")
    )
    return list(zip(chosen, rejected, strict=True))


def test_the_first_loss_is_equation_6_on_the_parents_log_probabilities(tmp_path, base):
    rows = [*PAIRS[:3], {**PAIRS[3], "rejected_finished": False}]
    (point,) = climb(tmp_path, base, rows, lora={"r": 2})
    means = mean_logps(base, rows)
    expected = [math.log(1 + math.exp(-(2 * (chosen - rejected) - 0.5))) for chosen, rejected in means]
    assert float(point["loss"]) == pytest.approx(sum(expected) / 4, abs=5e-3)
    assert float(point["rewards/margins"]) == pytest.approx(sum(2 * (c - r) for c, r in means) / 4, abs=5e-3)
    assert float(point["rewards/accuracies"]) == sum(c > r for c, r in means) / 4


def test_an_adapter_and_its_ledger(tmp_path, base):
    points = climb(tmp_path, base, PAIRS, lora={"r": 2}, max_steps=6, lr_scheduler_type="constant")
    assert float(points[-1]["rewards/margins"]) > float(points[0]["rewards/margins"])
    rung, metrics = read_rung(tmp_path / "models/simpo/chat"), json.loads((tmp_path / "chat.json").read_text())
    assert (rung.method, rung.kind, rung.parents) == ("simpo", "adapter", {"base": read_rung(base).identity})
    assert {"loss", "accuracy", "margin", "pairs", "too_long"} <= metrics.keys()


def test_accumulated_batches_are_one_batch(tmp_path, base):
    whole = climb(tmp_path / "whole", base, PAIRS)
    parts = climb(tmp_path / "parts", base, PAIRS, per_device_train_batch_size=1, gradient_accumulation_steps=4)
    for name in ("loss", "grad_norm", "rewards/margins", "num_tokens"):
        assert float(parts[0][name]) == pytest.approx(float(whole[0][name]), rel=1e-3)


def test_checkpointed_gradients_are_the_same(tmp_path, base):
    plain = climb(tmp_path / "plain", base, PAIRS, lora={"r": 2})
    saved = climb(tmp_path / "saved", base, PAIRS, lora={"r": 2}, gradient_checkpointing=True)
    assert float(saved[0]["grad_norm"]) == pytest.approx(float(plain[0]["grad_norm"]), rel=1e-3)
    assert float(saved[0]["grad_norm"]) > 0


def test_long_pairs_are_left_out_and_counted(tmp_path, base):
    longer = {**PAIRS[0], "chosen": assistant("a" * 64)}
    climb(tmp_path, base, [longer, PAIRS[1]], per_device_train_batch_size=1)
    metrics = json.loads((tmp_path / "chat.json").read_text())
    assert (metrics["pairs"], metrics["too_long"]) == (1, 1)
    with pytest.raises(UserError, match="none of 1 pairs fits max_length 64"):
        climb(tmp_path, base, [longer])


def test_an_adapter_on_the_output_layer_is_refused(tmp_path, base):
    with pytest.raises(UserError, match="reads lm_head.weight without its adapter"):
        climb(tmp_path, base, PAIRS, lora={"r": 2, "target_modules": ["lm_head"]})


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"chosen": user("Yes")}, "row 2: chosen: expected one message of the assistant, got user"),
        ({"chosen": [*user("Hi"), *assistant("Yes")]}, "row 2: chosen: expected one .* got user, assistant"),
        ({"rejected": PAIRS[1]["chosen"]}, "row 2: expected two different answers"),
        ({"rejected": assistant(""), "rejected_finished": False}, "row 2: nothing to compare: rejected is empty"),
    ],
)
def test_what_is_no_pair_is_refused(tmp_path, base, row, sentence):
    with pytest.raises(UserError, match=sentence):
        climb(tmp_path, base, [PAIRS[0], {**PAIRS[1], **row}])


def test_an_answer_of_nothing_but_its_end_is_an_answer(tmp_path, base):
    (point,) = climb(tmp_path, base, [{**PAIRS[0], "rejected": assistant("")}], per_device_train_batch_size=1)
    assert math.isfinite(float(point["loss"]))
