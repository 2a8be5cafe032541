import json
import math

import pytest

from conftest import PAIRS, assistant, user
from ladder.data.jsonl import read_rows, write_rows
from ladder.models.checkpoint import read_rung
from ladder.pipeline.stage import UserError
from stages import dpo, reference_logprobs

TRAINER = {
    "beta": 0.5,
    "max_steps": 1,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-3,
    "bf16": False,
    "max_length": 64,
}


def first_loss(tmp_path, base, rows, **changed):
    write_rows(tmp_path / "rows.jsonl", rows)
    params = dpo.Params(parent="base", data="reference_logprobs/chat", lora={"r": 2}, trainer={**TRAINER, **changed})
    outputs = [tmp_path / "models/dpo/chat", tmp_path / "chat.json", tmp_path / "chat.tsv"]
    dpo.main(params, base, base, tmp_path / "rows.jsonl", *outputs)
    header, point = (line.split("\t") for line in outputs[2].read_text().splitlines())
    return float(dict(zip(header, point, strict=True))["loss"])


def test_the_loss_begins_at_log_two(tmp_path, base, referenced):
    assert first_loss(tmp_path, base, referenced) == pytest.approx(math.log(2), abs=2e-3)
    rung = read_rung(tmp_path / "models/dpo/chat")
    assert (rung.method, rung.kind, rung.parents) == ("dpo", "adapter", {"base": read_rung(base).identity})


def test_the_loss_is_rafailovs_equation_7(tmp_path, base, referenced):
    # a reference under which each chosen answer is e^-2 and each rejected one e^1 times as likely: margin 2 + 1
    moved = [
        {**row, "ref_chosen_logps": row["ref_chosen_logps"] - 2, "ref_rejected_logps": row["ref_rejected_logps"] + 1}
        for row in referenced
    ]
    assert first_loss(tmp_path, base, moved) == pytest.approx(math.log(1 + math.exp(-0.5 * 3)), abs=2e-3)


def softplus(x):
    return math.log(1 + math.exp(x))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


# Each of TRL's losses worked by hand at the log ratios 2 (chosen, 3 tokens) and -1 (rejected, 8 tokens), beta 0.5.
SMOOTHED = {"label_smoothing": 0.1}
SIGMOID, FLIPPED = softplus(-1.5), softplus(1.5)
BY_HAND = {
    "sigmoid": (SIGMOID, {}),
    "ipo": ((2 / 3 + 1 / 8 - 1) ** 2, {}),
    "exo_pair": (
        sigmoid(1.5) * math.log(sigmoid(1.5) / 0.9) + sigmoid(-1.5) * math.log(sigmoid(-1.5) / 0.1),
        SMOOTHED,
    ),
    "nca_pair": (softplus(-1) + 0.5 * softplus(1) + 0.5 * softplus(-0.5), {}),
    "robust": ((0.9 * SIGMOID - 0.1 * FLIPPED) / 0.8, SMOOTHED),
    "bco_pair": (softplus(-1) + softplus(-0.5), {}),
    "sppo_hard": ((2 - 1) ** 2 + (-1 + 1) ** 2, {}),
    "aot": (0.9 * SIGMOID + 0.1 * FLIPPED, SMOOTHED),
    "aot_unpaired": (0.9 * SIGMOID + 0.1 * FLIPPED, SMOOTHED),
    "apo_zero": (1 - sigmoid(1) + sigmoid(-0.5), {}),
    "apo_down": (sigmoid(1) + 1 - sigmoid(1.5), {}),
    "discopop": (
        SIGMOID * (1 - sigmoid(1.5 / 0.5)) + math.exp(-1.5) * sigmoid(1.5 / 0.5),
        {"discopop_tau": 0.5},
    ),
    "sigmoid_norm": (softplus(-0.5 * (2 / 3 + 1 / 8)), {}),
}


@pytest.mark.parametrize("loss_type", BY_HAND)
def test_every_loss_of_trl_reads_our_reference(tmp_path, base, referenced, loss_type):
    moved = [
        {**row, "ref_chosen_logps": row["ref_chosen_logps"] - 2, "ref_rejected_logps": row["ref_rejected_logps"] + 1}
        for row in referenced
    ]
    expected, settings = BY_HAND[loss_type]
    assert first_loss(tmp_path, base, moved, loss_type=[loss_type], **settings) == pytest.approx(expected, abs=3e-3)


def test_a_run_without_any_gradient_publishes_no_rung(tmp_path, base, referenced):
    # The chosen answer is ahead by 3 nats and the hinge requires 2: the loss and its gradient are zero.
    moved = [{**row, "ref_chosen_logps": row["ref_chosen_logps"] - 3} for row in referenced]
    with pytest.raises(
        UserError, match="nothing was learned, so no rung is saved: the gradient was zero at all 1 steps"
    ):
        first_loss(tmp_path, base, moved, loss_type=["hinge"])
    assert not (tmp_path / "models").exists() and not (tmp_path / "chat.json").exists()


def test_pairs_longer_than_the_context_and_pairs_without_a_chosen_answer_are_counted(tmp_path, base, capsys):
    long = {**PAIRS[0], "prompt": user("x" * 5000)}  # the pico model reads 4096 tokens
    write_rows(tmp_path / "pairs.jsonl", [long, *PAIRS[1:]])
    made = tmp_path / "reference.jsonl"
    reference_logprobs.main(
        reference_logprobs.Params(model="base", data="p"), tmp_path / "pairs.jsonl", base, base, made
    )
    assert [row["id"] for row in read_rows(made)] == ["1", "2", "3"]
    assert "reference_logprobs: too_long: 1 left out" in capsys.readouterr().err
    empty = {**read_rows(made)[0], "chosen": assistant(" ")}
    first_loss(tmp_path, base, [empty, *read_rows(made), *read_rows(made)], max_length=None)
    measured = json.loads((tmp_path / "chat.json").read_text())
    assert (measured["pairs"], measured["too_long"], measured["empty_answers"]) == (6, 0, 1)
    assert "dpo: empty_answers: 1 left out" in capsys.readouterr().err
    with pytest.raises(UserError, match="the chosen answer of all 4 rows is empty after rendering"):
        first_loss(tmp_path, base, [empty] * 4)


def test_hinge_inside_its_margin(tmp_path, base, referenced):
    moved = [{**row, "ref_chosen_logps": row["ref_chosen_logps"] - 1} for row in referenced]
    assert first_loss(tmp_path, base, moved, loss_type=["hinge"]) == pytest.approx(1 - 0.5 * 1, abs=2e-3)


def test_the_sft_loss_is_the_chosen_tokens_mean_log_probability(tmp_path, base, referenced):
    expected = -sum(row["ref_chosen_logps"] for row in referenced) / (4 * 3)
    assert first_loss(tmp_path, base, referenced, loss_type=["sft"]) == pytest.approx(expected, abs=5e-3)


def test_a_reference_of_another_model_is_refused(tmp_path, base, referenced):
    with pytest.raises(UserError, match="rows.jsonl: row 1: made with another version of base"):
        first_loss(tmp_path, base, [{**row, "reference": "0" * 64} for row in referenced])


def test_pairs_that_do_not_fit_are_refused(tmp_path, base, referenced):
    with pytest.raises(UserError, match="none of 4 pairs fits max_length 5"):
        first_loss(tmp_path, base, referenced, max_length=5)
