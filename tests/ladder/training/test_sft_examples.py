from pathlib import Path

import torch

from conftest import assistant, user
from ladder.training.sft_examples import collate, example, examples, learned_logits
from perf.pico import pico_model, pico_tokenizer

DATA = Path("rows.jsonl")


def test_logits_where_tokens_are_learned_are_those_of_each_row_alone():
    model = pico_model(pico_tokenizer())
    rows = [example([5, 6, 7, 8, 9], [0, 0, 1, 1, 0]), example([4, 3, 2], [0, 1, 1]), example([9, 8], [0, 1])]
    batch = collate(rows)
    assert batch["labels"].tolist() == [[-100, -100, 7, 8, -100], [-100, 3, 2, -100, -100], [-100, 8, -100, -100, -100]]
    with torch.no_grad():
        logits, _ = learned_logits(model, batch)
        places = [(0, [1, 2]), (1, [0, 1]), (2, [0])]
        lone = [model(rows[row]["input_ids"][None]).logits[0, at] for row, at in places]
    torch.testing.assert_close(logits, torch.cat(lone))


def test_rows_that_do_not_fit_are_left_out():
    long = {"prompt": user("Hi"), "completion": assistant("x" * 100)}
    short = {"prompt": user("Hi"), "completion": assistant("Ho")}
    learned = examples([long, short], DATA, pico_tokenizer(), 60)
    assert len(learned) == 1
    assert len(examples([long, short], DATA, pico_tokenizer(), None)) == 2
    assert pico_tokenizer().decode(learned[0]["labels"][learned[0]["labels"] != -100]) == "Ho<|im_end|>"
