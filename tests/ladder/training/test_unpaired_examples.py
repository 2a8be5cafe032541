import pytest

from conftest import assistant, user
from ladder.pipeline.stage import UserError
from ladder.training.sft_examples import examples
from ladder.training.unpaired_examples import spread, unpaired_tokens
from perf.pico import pico_tokenizer

ROW = {"prompt": user("Hi"), "completion": assistant("Yes"), "label": False}


def test_a_row_is_its_prompt_and_its_answer_with_the_stop_token():
    tokenizer = pico_tokenizer()
    found = unpaired_tokens(tokenizer, ROW, "row 1")
    assert tokenizer.decode(found["prompt_ids"]) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert (tokenizer.decode(found["completion_ids"]), found["label"]) == ("Yes<|im_end|>", False)
    with pytest.raises(
        UserError, match="row 1: completion: expected one message of the assistant, got assistant, user"
    ):
        unpaired_tokens(tokenizer, {**ROW, "completion": assistant("Yes") + user("?")}, "row 1")


def test_good_and_bad_answers_are_evenly_spread():
    rows = [{"label": number < 8, "number": number} for number in range(12)]
    found = spread(rows, seed=3)
    assert sorted(row["number"] for row in found) == list(range(12))
    assert all(sum(row["label"] for row in found[start : start + 3]) == 2 for start in range(0, 12, 3))
    assert spread(rows, seed=3) == found != spread(rows, seed=4)


def test_answers_with_a_label_are_not_learned_as_good_ones(tmp_path):
    with pytest.raises(UserError, match="rows.jsonl: row 2: expected answers to imitate, got an unpaired preference"):
        examples([{"messages": user("Hi") + assistant("Yes")}, ROW], tmp_path / "rows.jsonl", pico_tokenizer(), None)
