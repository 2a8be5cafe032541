"""Formats, on rows in their published layouts; pairs against TRL's own extraction of the prompt."""

import gzip
import json
import os
from pathlib import Path

import pytest
from trl import extract_prompt

from conftest import assistant, user
from ladder.data.formats import read
from ladder.pipeline.errors import InvalidRow

CHAT = [*user("Hi"), *assistant("Hello"), *user("2+2?"), *assistant("4")]
SHARED = os.environ.get("LADDER_SHARED_DATA")
needs_shared = pytest.mark.skipif(not SHARED, reason="LADDER_SHARED_DATA names no folder of the shared data")


def shared(name):
    content = (Path(SHARED) / name).read_bytes()
    text = gzip.decompress(content) if name.endswith(".gz") else content
    return [json.loads(line) for line in text.splitlines() if line.strip()]


CONVERSATIONS = {
    "messages": {"messages": CHAT},
    "sharegpt": {
        "conversations": [
            {"from": "human", "value": "Hi"},
            {"from": "gpt", "value": "Hello"},
            {"from": "human", "value": "2+2?"},
            {"from": "gpt", "value": "4"},
        ]
    },
    "completion": {"prompt": CHAT[:3], "completion": "4"},
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_conversation_in_any_format_is_the_same_row(name):
    row = CONVERSATIONS[name]
    assert read(row, None, "messages") == (name, [{"messages": CHAT}])
    assert read(row, None, "completion") == (name, [{"prompt": CHAT[:3], "completion": CHAT[3:]}])
    assert read(row, name, "messages") == (name, [{"messages": CHAT}])
    with pytest.raises(InvalidRow, match=f"no pair: .*, got one .format {name}"):
        read(row, None, "preference")


def test_ultrachat_and_lmsys_rows_carry_more_and_read_the_same():
    ultrachat = {"prompt": "Hi", "prompt_id": "f0e3", "messages": CHAT}
    assert read(ultrachat, None, "messages") == ("messages", [{"messages": CHAT}])
    arrow = {"messages": [{**message, "tool_calls": None, "weight": 1} for message in CHAT], "tools": None}
    assert read(arrow, None, "messages") == ("messages", [{"messages": CHAT}])


def test_system_and_tool_turns_of_sharegpt():
    turns = [("system", "Be brief."), ("human", "Time?"), ("gpt", "clock()"), ("tool", "noon"), ("gpt", "Noon.")]
    row = {"conversations": [{"from": speaker, "value": text} for speaker, text in turns]}
    roles = ["system", "user", "assistant", "tool", "assistant"]
    expected = [{"role": role, "content": text} for role, (_, text) in zip(roles, turns, strict=True)]
    assert read(row, None, "messages") == ("sharegpt", [{"messages": expected}])
    apart = {"system": "Be brief.", "conversations": row["conversations"][1:]}
    assert read(apart, None, "messages") == ("sharegpt", [{"messages": expected}])
    empty = {"conversations": [{"from": "system", "value": ""}, *row["conversations"][1:]]}
    assert read(empty, None, "messages") == ("sharegpt", [{"messages": expected[1:]}])


def test_alpaca_with_and_without_an_input():
    row = {"instruction": "Add.", "input": "2, 2", "output": "4", "text": "Below is an instruction ..."}
    assert read(row, None, "messages") == ("alpaca", [{"messages": user("Add.\n\n2, 2") + assistant("4")}])
    assert read({**row, "input": ""}, None, "messages")[1] == [{"messages": user("Add.") + assistant("4")}]


def test_a_seed_task_gives_one_row_an_instance():
    row = {"instruction": "Add.", "instances": [{"input": "2, 2", "output": "4"}, {"input": "", "output": "?"}]}
    first, second = user("Add.\n\n2, 2") + assistant("4"), user("Add.") + assistant("?")
    assert read(row, None, "messages") == ("seeds", [{"messages": first}, {"messages": second}])


@pytest.mark.parametrize(
    ("row", "name", "prompt"),
    [
        ({"prompt": "2+2?", "id": 7}, "prompt", user("2+2?")),
        ({"prompt": CHAT[:3]}, "prompt", CHAT[:3]),
        ({"prompt": "2+2?", "system": "Be brief."}, "prompt", [{"role": "system", "content": "Be brief."}] + CHAT[2:3]),
        ({"messages": CHAT[:3]}, "messages", CHAT[:3]),
        ({"messages": CHAT}, "messages", CHAT[:3]),
        ({"messages": [*CHAT[2:], {"role": "tool", "content": "x"}, *assistant("5")]}, "messages", CHAT[2:3]),
        ({"prompt": "2+2?", "completion": "4"}, "completion", user("2+2?")),
        ({"prompt": "2+2?", "chosen": "4", "rejected": "5"}, "preference", user("2+2?")),
        ({"prompt": "2+2?", "chosen": "4", "rejected": "4"}, "preference", user("2+2?")),
        ({"chosen": CHAT, "rejected": CHAT[:3] + assistant("5")}, "preference", CHAT[:3]),
    ],
)
def test_a_prompt_is_all_up_to_the_last_word_of_the_user(row, name, prompt):
    assert read(row, None, "prompt") == (name, [{"prompt": prompt}])


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "2+2?", "chosen": "4", "rejected": "4"},
        {"chosen": user("2+2?") + assistant("4"), "rejected": user("2+2?") + assistant("4")},
        {"chosen": "\n\nHuman: 2+2?\n\nAssistant: 4", "rejected": "\n\nHuman: 2+2?\n\nAssistant: 4"},
    ],
)
def test_the_prompt_of_a_pair_is_where_its_answers_do_not_differ(row):
    assert read(row, None, "prompt")[1] == [{"prompt": user("2+2?")}]


def test_the_prompt_of_a_tree_precedes_the_best_last_answer():
    tree = {"prompt": {"role": "prompter", "text": "Hi", "replies": [{"role": "assistant", "text": "Hello"}]}}
    assert read(tree, None, "prompt") == ("tree", [{"prompt": user("Hi")}])


PAIR = {"prompt": user("2+2?"), "chosen": assistant("4"), "rejected": assistant("5")}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "2+2?", "chosen": "4", "rejected": "5"},
        PAIR,
        # UltraFeedback-binarized: complete dialogues, the prompt's text, and the chosen dialogue again
        {
            "prompt": "2+2?",
            "prompt_id": "1c",
            "chosen": user("2+2?") + assistant("4"),
            "rejected": user("2+2?") + assistant("5"),
            "messages": user("2+2?") + assistant("4"),
            "score_chosen": 9.0,
            "score_rejected": 2.0,
        },
        {"chosen": user("2+2?") + assistant("4"), "rejected": user("2+2?") + assistant("5")},
    ],
)
def test_a_pair_in_any_layout_is_the_same_row(row):
    assert read(row, None, "preference") == ("preference", [PAIR])
    with pytest.raises(InvalidRow, match="pair: expected a row of .*, got a pair of answers"):
        read(row, None, "messages")


def test_hh_transcripts_part_where_trl_parts_them():
    start = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: What is 2+2?\n\nAssistant:"
    row = {"chosen": f"{start} It is 4.", "rejected": f"{start} It is 5.\n\nI think."}
    ((pair,),) = [read(row, None, "preference")[1]]
    assert pair["prompt"] == user("Hi") + assistant("Hello") + user("What is 2+2?")
    assert pair["chosen"] == assistant("It is 4.") and pair["rejected"] == assistant("It is 5.\n\nI think.")
    dialogues = {name: pair["prompt"] + pair[name] for name in ("chosen", "rejected")}
    assert extract_prompt(dialogues) == pair
    assert read(row, None, "preference")[0] == "transcripts"


@pytest.mark.parametrize(
    ("row", "kind", "reason"),
    [
        ({"text": "x"}, "messages", "no format: none of"),
        ({}, "messages", "has the columns none"),
        ({"messages": None, "text": "x"}, "messages", "has the columns text"),
        ({"messages": "x"}, "messages", "not messages: messages is str"),
        ({"messages": []}, "messages", "not messages: messages is empty"),
        ({"messages": ["x"]}, "messages", "not a message: turn 1 of messages is str"),
        (
            {"messages": [{"role": "narrator", "content": "x"}]},
            "messages",
            "'role' of turn 1 of messages: expected one of system, user, assistant, tool, got 'narrator'",
        ),
        (
            {"messages": [{"role": ["user"], "content": "x"}]},
            "messages",
            "'role' of turn 1 of messages: expected one of system, user, assistant, tool, got ['user']",
        ),
        (
            {"messages": [{"role": "user", "content": None}]},
            "messages",
            "not a text: 'content' of turn 1 of messages is null",
        ),
        ({"messages": [{"role": "system", "content": ""}]}, "messages", "only an empty system message"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages", "turns: none of user"),
        ({"messages": CHAT[:3]}, "messages", "turns: expected the last of assistant, got user"),
        ({"messages": CHAT[1:]}, "messages", "turns: 1 is assistant, before the first of user"),
        (
            {"messages": [*user("a"), *user("b"), *assistant("c")]},
            "messages",
            "turns: 2 is user, like the previous one",
        ),
        ({"messages": [*user("a"), *assistant(" \n")]}, "messages", "empty text: turn 2, of assistant"),
        (
            {"messages": [*CHAT, {"role": "system", "content": "x"}]},
            "messages",
            "turns: 5 is system; expected it first",
        ),
        ({"messages": CHAT, "tools": [{"name": "f"}]}, "messages", "column not read: 'tools'"),
        (
            {"messages": [CHAT[0], {**CHAT[1], "weight": 0.5}]},
            "messages",
            "flag: 'weight' of turn 2 of messages: expected",
        ),
        (
            {"system": "a", "messages": [{"role": "system", "content": "b"}, *CHAT]},
            "messages",
            "a second system message",
        ),
        (
            {"conversations": [{"from": "observation", "value": "x"}]},
            "messages",
            "turns: 1 is tool, before the first of user",
        ),
        ({"instruction": "x", "output": 4}, "messages", "not a text: output is int"),
        ({"instruction": "x", "instances": []}, "messages", "not instances"),
        ({**PAIR, "rejected": assistant("4")}, "preference", "same answer"),
        ({**PAIR, "rejected": assistant("")}, "preference", "empty text: turn 2, of assistant"),
        ({**PAIR, "rejected": assistant("4") + user("?")}, "preference", "turns: rejected continues after the answer"),
        ({"chosen": CHAT[:2], "rejected": CHAT[:2]}, "preference", "same answer"),
        ({"prompt": "other", "chosen": CHAT[:2], "rejected": CHAT[:1] + assistant("x")}, "preference", "other prompt"),
        (
            {"chosen": CHAT[:2], "rejected": user("?") + assistant("x")},
            "preference",
            "does not begin with the assistant",
        ),
        ({"chosen": CHAT, "rejected": CHAT[:2]}, "preference", "turns: chosen does not begin with the assistant"),
        ({"chosen": "hi", "rejected": "ho"}, "preference", "not a transcript: chosen does not begin"),
        ({"prompt": {"role": "assistant", "replies": []}}, "messages", "not a tree"),
        ({"prompt": "2+2?"}, "messages", "no answer: expected a row of messages, got a prompt alone"),
        ({"prompt": "2+2?"}, "preference", "no answer: expected a row of preference, got a prompt alone"),
        ({"prompt": assistant("2+2?")}, "prompt", "turns: none of user"),
        ({"prompt": " "}, "prompt", "empty text: turn 1, of user"),
    ],
)
def test_an_invalid_row_is_reported(row, kind, reason):
    with pytest.raises(InvalidRow) as misfit:
        read(row, None, kind)
    assert reason in str(misfit.value)


def test_a_format_that_is_demanded_makes_others_misfits():
    with pytest.raises(InvalidRow, match="not messages: conversations is empty"):
        read({"messages": CHAT}, "sharegpt", "messages")


@needs_shared
def test_the_self_instruct_seed_tasks_are_175():
    rows = [made for row in shared("train/self_instruct_seed_tasks.jsonl") for made in read(row, None, "completion")[1]]
    assert len(rows) == 175
