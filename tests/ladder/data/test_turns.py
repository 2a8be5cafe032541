import pytest

from conftest import assistant, user
from ladder.data.turns import said, with_chosen
from ladder.pipeline.stage import UserError

MESSAGES = {"messages": [{"role": "system", "content": "S"}, *user("Q"), *assistant("A"), *user("R"), *assistant("B")]}
ANSWERED = {"prompt": [{"role": "system", "content": "S"}, *user("Q")], "completion": assistant("A")}
PAIR = {"prompt": user("Q"), "chosen": assistant("A"), "rejected": assistant("B"), "id": "p"}


@pytest.mark.parametrize(
    ("row", "prompt", "completion", "everything"),
    [(MESSAGES, "Q\nR", "A\nB", "S\nQ\nA\nR\nB"), (ANSWERED, "Q", "A", "S\nQ\nA"), (PAIR, "Q", "A", "Q\nA\nB")],
)
def test_the_parts_of_each_type_of_row(row, prompt, completion, everything):
    assert [said(row, part) for part in ("prompt", "completion", "all")] == [prompt, completion, everything]


def test_another_type_is_refused_and_a_pair_can_be_read_as_its_chosen_answer():
    with pytest.raises(UserError, match="row x: expected messages"):
        said({"id": "x", "text": "t"}, "all")
    assert with_chosen(PAIR) == {"id": "p", "prompt": user("Q"), "completion": assistant("A")}
    assert with_chosen(MESSAGES) is MESSAGES
