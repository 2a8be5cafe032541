import json
import math

import pytest
import torch
from peft import LoraConfig, get_peft_model

from conftest import assistant, user
from ladder.data.jsonl import write_rows
from ladder.models.checkpoint import load, load_reward, read_rung, save_rung
from ladder.models.scoring import rewards
from ladder.pipeline.stage import UserError
from perf.pico import pico_model, pico_tokenizer
from stages import reward

TRAINER = {"max_steps": 1, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "bf16": False, "max_length": 64}


def pairs(numbers):
    """Chosen answers end with a period; rejected ones have the same length and end with an exclamation mark."""
    return [
        {"id": str(n), "prompt": user(f"Say {n}."), "chosen": assistant(f"{n}."), "rejected": assistant(f"{n}!")}
        for n in numbers
    ]


def made(tmp_path, parent, base, *, lora=None, heldout=range(100, 108), **trainer):
    write_rows(tmp_path / "pairs.jsonl", pairs(range(8)))
    write_rows(tmp_path / "heldout.jsonl", pairs(heldout))
    params = reward.Params(
        parent="base", data="preferences/a", heldout="preferences/b", lora=lora, trainer={**TRAINER, **trainer}
    )
    inputs = [parent, base, tmp_path / "pairs.jsonl", tmp_path / "heldout.jsonl"]
    outputs = [tmp_path / "models/reward/a", tmp_path / "a.json", tmp_path / "a.tsv", tmp_path / "heldout.json"]
    reward.main(params, *inputs, *outputs)
    measured, record = json.loads(outputs[3].read_text()), json.loads(outputs[1].read_text())
    assert measured.pop("made_by") == {"rung": read_rung(outputs[0]).provenance}
    won = measured.pop("won")
    assert [name for name, _ in won] == [str(n) for n in heldout]
    assert 100 * sum(share for _, share in won) / len(won) == measured["heldout_accuracy"]
    assert measured == {name: record[name] for name in measured} and "seconds" not in measured
    header, *points = (line.split("\t") for line in outputs[2].read_text().splitlines())
    curve = [dict(zip(header, map(float, point), strict=True)) for point in points]
    return outputs[0], json.loads(outputs[1].read_text()), curve


def test_the_loss_begins_at_log_two_and_the_pairs_are_distinguished(tmp_path, base):
    directory, measured, curve = made(tmp_path, base, base, max_steps=30)
    assert curve[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert measured["heldout_accuracy"] == 100
    assert measured["longer_wins_accuracy"] == 50
    assert measured["heldout_low"] == pytest.approx(100 * 8 / (8 + 1.959964**2), abs=0.01)  # Wilson, n of n right
    rung = read_rung(directory)
    assert (rung.kind, rung.head, rung.parents) == ("complete", "reward", {"base": read_rung(base).identity})


def test_an_adapter_and_its_head_come_back_as_they_were_trained(tmp_path, base):
    directory, measured, _ = made(tmp_path, base, base, lora={"r": 2}, max_steps=30)
    assert (read_rung(directory).kind, measured["heldout_accuracy"]) == ("adapter", 100)
    assert read_rung(directory).trainable_parameters < 20_000
    again = made(tmp_path / "again", base, base, lora={"r": 2}, max_steps=30)[0]
    assert read_rung(again).identity == read_rung(directory).identity


def test_a_parents_adapter_is_part_of_the_reward_model(tmp_path, base):
    loaded = load(base, base)
    adapted = get_peft_model(loaded.model, LoraConfig(r=2, target_modules="all-linear"))
    ground = read_rung(base)
    save_rung(tmp_path / "sft", adapted, loaded.tokenizer, rung="sft/a", method="sft", base=ground)
    directory, _, curve = made(tmp_path, tmp_path / "sft", base, lora={"r": 2}, max_steps=1)
    assert (read_rung(directory).kind, list(read_rung(directory).parents)) == ("complete", ["sft/a"])
    assert curve[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)


def test_a_reward_does_not_depend_on_its_batch(tmp_path, base):
    model = load_reward(made(tmp_path, base, base, max_steps=5)[0], base, dtype=torch.float32)
    torch.manual_seed(0)
    ids = [torch.randint(3, 250, (length,)).tolist() + end for length in (5, 40, 17) for end in ([], [model.stop])]
    alone = [rewards(model, [row])[0] for row in ids]
    assert rewards(model, ids) == pytest.approx(alone, abs=1e-5)
    assert len(set(alone)) == 6  # with and without the stop token: the end of an answer matters


def test_the_end_of_an_answer_is_read_where_the_tokenizer_pads_with_the_stop_token(tmp_path):
    tokenizer = pico_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    save_rung(tmp_path / "base", pico_model(tokenizer), tokenizer, rung="base", method="base")
    directory, _, _ = made(tmp_path, tmp_path / "base", tmp_path / "base", max_steps=2)
    model = load_reward(directory, tmp_path / "base")
    assert model.tokenizer.pad_token_id == model.stop
    assert model.model.config.pad_token_id != model.stop
    assert read_rung(directory).tokenizer == read_rung(tmp_path / "base").tokenizer
    assert rewards(model, [[5, 6, model.stop]]) != rewards(model, [[5, 6]])


def test_the_reward_is_the_head_on_the_last_token(tmp_path, base):
    model = load_reward(made(tmp_path, base, base, max_steps=5)[0], base, dtype=torch.float32)
    ids = list(b"What is it?") + [model.stop]
    with torch.no_grad():
        hidden = model.model.model(torch.tensor([ids])).last_hidden_state[0, -1]
        expected = (hidden @ model.model.score.weight[0]).item()
    assert rewards(model, [ids])[0] == pytest.approx(expected, abs=1e-5)


def test_a_reward_model_is_no_language_model_and_the_reverse(tmp_path, base):
    directory = made(tmp_path, base, base)[0]
    with pytest.raises(UserError, match="models/reward/a: expected a language model, got a reward model"):
        load(directory, base)
    with pytest.raises(UserError, match="base: expected a reward model, .*, got a language model"):
        load_reward(base, base)


def test_centering_adds_the_squared_sum_of_the_rewards(tmp_path, base):
    _, _, plain = made(tmp_path, base, base, max_steps=2)
    _, _, centered = made(tmp_path, base, base, max_steps=2, center_rewards_coefficient=1.0)
    assert centered[0]["loss"] == plain[0]["loss"]  # a zero head is already centered
    assert centered[1]["loss"] > plain[1]["loss"]


def test_a_heldout_prompt_that_was_trained_on_is_refused(tmp_path, base):
    with pytest.raises(UserError, match="heldout.jsonl: row 2: its prompt is in .*pairs.jsonl, which is trained on"):
        made(tmp_path, base, base, heldout=[100, 3])


def test_a_head_has_nothing_to_continue(tmp_path, base):
    with pytest.raises(UserError, match="lora: continue needs a parent with a reward head"):
        made(tmp_path, base, base, lora="continue")
