import pytest

from conftest import assistant, user
from ladder.data.turns import answer, answers, messages, row_type, said, saying, with_chosen
from ladder.pipeline.stage import UserError

SYSTEM = [{"role": "system", "content": "S"}]
CONTEXT = [{"role": "assistant", "content": "C", "train": False}]
TOOL = [{"role": "tool", "content": "T"}]
THOUGHT = [{"role": "assistant", "content": "<think>\nhm\n</think>\n\nA"}]

ANSWERS = [
    # TRL's dataset types, conversational: one turn, several turns, and turns that are not learned.
    ("messages", {"messages": user("Q") + assistant("A")}, ["A"]),
    ("messages", {"messages": SYSTEM + user("Q") + assistant("A") + user("R") + assistant("B")}, ["A", "B"]),
    ("messages", {"messages": user("Q") + CONTEXT + user("R") + assistant("B")}, ["B"]),
    ("messages", {"messages": user("Q") + assistant("A") + TOOL + assistant("B")}, ["A", "B"]),
    ("messages", {"messages": user("Q")}, []),
    ("completion", {"prompt": SYSTEM + user("Q"), "completion": assistant("A")}, ["A"]),
    ("completion", {"prompt": user("Q") + assistant("A") + user("R"), "completion": assistant("B")}, ["A", "B"]),
    ("completion", {"prompt": user("Q") + CONTEXT + user("R"), "completion": assistant("B")}, ["B"]),
    ("completion", {"prompt": user("Q"), "completion": assistant("A") + TOOL + assistant("B")}, ["A", "B"]),
    (
        "unpaired",
        {"prompt": user("Q") + assistant("A") + user("R"), "completion": assistant("B"), "label": False},
        ["B"],
    ),
    ("preference", {"prompt": user("Q"), "chosen": assistant("A"), "rejected": assistant("B")}, ["A"]),
    (
        "preference",
        {"prompt": user("Q") + assistant("A") + user("R"), "chosen": assistant("B"), "rejected": assistant("C")},
        ["B"],
    ),
    (
        "preference",
        {"prompt": user("Q"), "chosen": assistant("A") + TOOL + assistant("B"), "rejected": TOOL},
        ["A", "B"],
    ),
    ("prompt", {"prompt": user("Q")}, []),
    ("prompt", {"prompt": user("Q") + assistant("A") + user("R")}, []),
    # TRL's standard format: texts.
    ("completion", {"prompt": "Q", "completion": "A"}, ["A"]),
    ("unpaired", {"prompt": "Q", "completion": "A", "label": True}, ["A"]),
    ("preference", {"prompt": "Q", "chosen": "A", "rejected": "B"}, ["A"]),
    ("prompt", {"prompt": "Q"}, []),
    # Reasoning is no part of it, in the text or in a key of its own.
    ("completion", {"prompt": user("Q"), "completion": THOUGHT}, ["A"]),
    ("messages", {"messages": user("Q") + [{**assistant("A")[0], "reasoning_content": "hm"}]}, ["A"]),
]


@pytest.mark.parametrize(("kind", "row", "expected"), ANSWERS)
def test_the_answer_of_each_type_of_row(kind, row, expected):
    assert row_type(row, "here") == kind
    assert answers(row) == expected
    assert answer(row) == "\n".join(expected)


@pytest.mark.parametrize(("kind", "row", "expected"), ANSWERS)
def test_the_parts_say_which_messages_they_hold(kind, row, expected):
    texts = [message["content"] for message in messages(row)]
    for part in ("prompt", "completion", "all"):
        held = [text for text, holds in zip(texts, saying(row, part), strict=True) if holds]
        assert "\n".join(held) == said(row, part)


def test_a_conversation_has_one_answer_as_messages_and_as_prompt_and_completion():
    turns = user("Q") + assistant("A") + user("R") + assistant("B")
    assert answers({"messages": turns}) == answers({"prompt": turns[:-1], "completion": turns[-1:]})


def test_the_prompt_is_what_the_user_says_and_all_has_reasoning_and_the_rejected_answer():
    thought = [{**assistant("A")[0], "reasoning_content": "hm"}]
    row = {"prompt": SYSTEM + user("Q") + assistant("P") + user("R"), "chosen": thought, "rejected": assistant("B")}
    assert said(row, "prompt") == "Q\nR"
    assert said(row, "completion") == "A"
    assert said(row, "all") == "S\nQ\nP\nR\nA\nhm\nB"
    assert said({"prompt": user("Q"), "completion": THOUGHT}, "completion") == THOUGHT[0]["content"]


def test_another_type_is_refused_and_a_pair_can_be_read_as_its_chosen_answer():
    for read in (answers, lambda row: said(row, "all"), lambda row: saying(row, "prompt")):
        with pytest.raises(UserError, match="^row x: expected the columns messages; .*, got id, text$"):
            read({"id": "x", "text": "t"})
    pair = {"prompt": user("Q"), "chosen": assistant("A"), "rejected": assistant("B"), "id": "p"}
    assert with_chosen(pair) == {"id": "p", "prompt": user("Q"), "completion": assistant("A")}
    assert with_chosen(row := {"messages": user("Q")}) is row
