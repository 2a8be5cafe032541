"""Answers without text after rendering."""

import pytest
import torch

from conftest import assistant, user
from ladder.chat.empty_answers import answered, answered_pairs, is_blank
from ladder.pipeline.stage import UserError
from ladder.training.sft_examples import examples
from perf.pico import pico_tokenizer

BLANK = ["", " ", "\n\n\t", "\u00a0", "\u200b", "<think>\n\n</think>\n\n", "\u2003\ufeff"]


@pytest.mark.parametrize("text", BLANK)
def test_blanks_are_no_answer(text):
    tokenizer = pico_tokenizer()
    assert is_blank(tokenizer, [*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id])


@pytest.mark.parametrize("text", ["4", ".", " no", "<think>well</think>", "\n" * 9 + "x"])
def test_a_short_answer_is_one(text):
    tokenizer = pico_tokenizer()
    assert not is_blank(tokenizer, [*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id])


def test_rows_with_an_empty_turn_are_left_out():
    tokenizer = pico_tokenizer()
    good = {"messages": user("a?") + assistant("b")}
    rows = [good, {"messages": user("a?") + assistant(" ")}]
    rows.append({"messages": user("a?") + assistant("") + user("c?") + assistant("d")})
    made = examples(rows, "rows.jsonl", tokenizer, None)
    kept = answered(made, "rows.jsonl", tokenizer)
    assert len(kept) == 1 and torch.equal(kept[0]["input_ids"], made[0]["input_ids"])
    with pytest.raises(UserError, match="rows.jsonl: nothing to learn: the answer of all 2 rows is empty"):
        answered(made[1:], "rows.jsonl", tokenizer)


def test_pairs_without_a_chosen_text_are_left_out_and_a_rejected_one_is_not():
    tokenizer = pico_tokenizer()
    stop, word = tokenizer.eos_token_id, tokenizer("b").input_ids
    pair = {"prompt_ids": [1], "chosen_ids": [*word, stop], "rejected_ids": [stop]}
    empty = {"prompt_ids": [1], "chosen_ids": [stop], "rejected_ids": [*word, stop]}
    assert answered_pairs([pair, empty], "pairs.jsonl", tokenizer) == [pair]
    with pytest.raises(UserError, match="the chosen answer of all 1 rows is empty"):
        answered_pairs([empty], "pairs.jsonl", tokenizer)
