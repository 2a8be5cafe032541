"""Messages with the keys of published sets and trainers, converted to role, content, reasoning_content and train."""

import pytest

from conftest import assistant, user
from ladder.data.column_names import MASKED, TRAINED
from ladder.data.columns import Unread
from ladder.data.messages import SPEAKERS, messages_of
from ladder.pipeline.errors import InvalidRow

ASKED = user("Capital of Peru?")
WRONG, RIGHT = assistant("Quito."), assistant("Lima.")


def flagged(**flags):
    return [*ASKED, {**WRONG[0], **flags}, *user("No."), *RIGHT]


EXPECTED = [*ASKED, {**WRONG[0], "train": False}, *user("No."), *RIGHT]


@pytest.mark.parametrize("value", [False, 0, 0.0, "false", "False", "0"])
@pytest.mark.parametrize("key", sorted(TRAINED))
def test_a_turn_that_a_flag_leaves_out_is_not_trained(key, value):
    assert messages_of(flagged(**{key: value}), "messages") == EXPECTED


@pytest.mark.parametrize("key", sorted(MASKED))
def test_a_turn_that_is_masked_is_not_trained(key):
    assert messages_of(flagged(**{key: True}), "messages") == EXPECTED
    assert messages_of(flagged(**{key: False}), "messages") == flagged()


@pytest.mark.parametrize("value", [True, 1, 1.0, None, float("nan"), "true", ""])
def test_a_turn_that_is_trained_has_no_flag(value):
    assert messages_of(flagged(weight=value, train=value), "messages") == flagged()


def test_flags_in_other_cases_and_beside_a_turn_of_the_user():
    assert messages_of(flagged(trainOnTurn=False), "messages") == EXPECTED
    weights = [{**message, "weight": 1} for message in flagged()]
    assert messages_of(weights, "messages") == flagged()
    masked = [{**message, "masked": message["role"] == "user"} for message in flagged()]
    assert messages_of(masked, "messages") == flagged()


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"weight": 0.5}, "flag: 'weight' of turn 2 of messages: expected true or false, 0 or 1, got 0.5"),
        ({"loss": "some"}, "flag: 'loss' of turn 2 of messages: expected true or false, 0 or 1, got 'some'"),
        ({"train": True, "weight": 0}, "flag: 'train', 'weight' of turn 2 of messages contradict each other"),
        ({"mask": 1}, "flag: 'mask' of turn 2 of messages is the number 1"),
        ({"eot": False}, "flag: 'eot' of turn 2 of messages is false"),
        ({"prefix": True}, "flag: 'prefix' of turn 2 of messages is true"),
        ({"train_detail": [{"begin_offset": 0}]}, "column not read: 'train_detail' of turn 2 of messages"),
    ],
)
def test_a_flag_that_cannot_be_honored_is_a_misfit(flags, reason):
    with pytest.raises(InvalidRow) as misfit:
        messages_of(flagged(**flags), "messages")
    assert reason in str(misfit.value)


def test_a_turn_of_the_user_that_is_to_be_learned_is_a_misfit():
    with pytest.raises(InvalidRow, match="'train' of turn 1 of messages marks a turn of user as trained"):
        messages_of([{**ASKED[0], "train": True}, *RIGHT], "messages")


THOUGHT = [*user("What is 6 times 7?"), {"role": "assistant", "content": "42", "reasoning_content": "Six sevens."}]


@pytest.mark.parametrize(
    "turns",
    [
        [{"role": "assistant", "content": "42", key: "Six sevens."}]
        for key in ("reasoning_content", "reasoning", "thinking", "thought", "thoughts", "think", "analysis", "cot")
    ]
    + [
        [{"role": "assistant", "content": "42", "reasoning": "Six sevens.", "reasoning_content": "Six sevens."}],
        [{"role": "assistant", "content": "42", "thinking": ["Six ", "sevens."]}],
        [
            {"role": "assistant", "channel": "analysis", "content": "Six sevens."},
            {"role": "assistant", "channel": "final", "content": "42"},
        ],
        [{"role": "thinking", "content": "Six sevens."}, {"role": "assistant", "content": "42"}],
        [
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Six sevens.", "signature": "x", "text": None},
                    {"type": "text", "text": "42", "thinking": None},
                ],
            }
        ],
    ],
)
def test_reasoning_is_read_from_a_key_a_channel_or_a_part(turns):
    assert messages_of([*user("What is 6 times 7?"), *turns], "messages") == THOUGHT


def test_reasoning_inside_the_content_stays_there():
    turns = [*ASKED, *assistant("<think>\nSouth America\n</think>\n\nLima.")]
    assert messages_of(turns, "messages") == turns


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        ({**RIGHT[0], "reasoning": {"steps": 3}}, "column not read: 'reasoning' of turn 2 of messages"),
        ({**RIGHT[0], "thinking": "a", "thought": "b"}, "reasoning: 'thinking' or 'thought' of turn 2"),
        (
            {**assistant("<think>a</think>b")[0], "thinking": "a"},
            "reasoning: turn 2 of messages has it both in its own key",
        ),
        ({"role": "tool", "content": "x", "thinking": "a"}, "reasoning: turn 2 of messages is of tool"),
        ({**RIGHT[0], "channel": "commentary"}, "column not read: 'channel' of turn 2 of messages"),
        ({**RIGHT[0], "channel": "analysis"}, "reasoning: messages ends with reasoning, without the answer"),
        ({**RIGHT[0], "recipient": "functions.clock"}, "column not read: 'recipient' of turn 2 of messages"),
    ],
)
def test_reasoning_in_another_shape_is_a_misfit(turn, reason):
    with pytest.raises(InvalidRow) as misfit:
        messages_of([*ASKED, turn], "messages")
    assert reason in str(misfit.value)


@pytest.mark.parametrize(
    "keys", [("role", "content"), ("from", "value"), ("Role", "Content"), ("speaker", "text"), ("role", "value")]
)
@pytest.mark.parametrize("names", [("user", "assistant"), ("human", "gpt"), ("User", "ASSISTANT"), ("Human", "bard")])
def test_role_and_text_under_other_keys_and_names(keys, names):
    turns = [dict(zip(keys, pair, strict=True)) for pair in zip(names, ("Say two.", "Two."), strict=True)]
    assert messages_of(turns, "conversations") == user("Say two.") + assistant("Two.")


def test_every_speaker_is_one_of_the_roles():
    assert {SPEAKERS[name] for name in ("chatgpt", "bot", "model", "ai")} == {"assistant"}
    assert {SPEAKERS[name] for name in ("tool", "function", "observation")} == {"tool"}
    assert SPEAKERS["developer"] == "system"
    assert set(SPEAKERS.values()) == {"system", "user", "assistant", "tool", "reasoning"}


def test_nulls_that_arrow_fills_in_are_no_keys():
    filled = {
        "from": None,
        "value": None,
        "tool_calls": None,
        "images": [],
        "thinking": None,
        "name": None,
        "foo": None,
    }
    assert messages_of([{**message, **filled} for message in flagged()], "messages") == flagged()


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        ({"from": "human", "value": None}, "not a text: 'value' of turn 1 of conversations is null"),
        ({"from": None, "value": "x"}, "role: 'from' of turn 1 of conversations is null"),
        ({"value": "x"}, "role: turn 1 of conversations has no key 'role' or 'from' or 'speaker'; its keys are value"),
        ({"from": "human"}, "not a text: turn 1 of conversations has no key 'content' or 'value' or 'text'; its keys"),
        (
            {"from": "narrator", "value": "x"},
            "role: 'from' of turn 1 of conversations: expected one of system, user, assistant, tool, got 'narrator'",
        ),
        ({"from": "gpt", "role": "user", "value": "x"}, "role: 'role' or 'from' of turn 1"),
        ({"from": "gpt", "value": "x", "content": "y"}, "not a text: 'content' or 'value' of turn 1"),
        ({"role": "user", "content": 4}, "not a text: 'content' of turn 1 of conversations is int"),
        ("x", "not a message: turn 1 of conversations is str"),
    ],
)
def test_a_key_that_is_missing_is_named(turn, reason):
    with pytest.raises(InvalidRow) as misfit:
        messages_of([turn], "conversations")
    assert reason in str(misfit.value)


def test_parts_of_text_are_read_as_their_text():
    parts = [{"type": "text", "text": "Capital of ", "image_url": None}, {"type": "input_text", "text": "Peru?"}]
    assert messages_of([{"role": "user", "content": parts}, *RIGHT], "messages") == ASKED + RIGHT


@pytest.mark.parametrize(
    ("message", "names"),
    [
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, ["image_url"]),
        ({"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "x"}]}, ["image"]),
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "x"}}]}, ["input_audio"]),
        ({"role": "user", "content": [{"type": "file", "file": {"file_id": "x"}}]}, ["file"]),
        ({"role": "user", "content": [{"type": "video", "video": "x"}]}, ["video"]),
        ({"role": "user", "content": [{"type": "tool_result", "content": "x"}]}, ["tool_result"]),
        ({"role": "user", "content": "x", "images": ["x.png"]}, ["images"]),
        ({"role": "user", "content": "x", "attachments": [{"name": "x"}]}, ["attachments"]),
        ({"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}, ["tool_calls"]),
        ({"role": "assistant", "content": "", "function_call": {"name": "f"}}, ["function_call"]),
        ({"role": "user", "content": "x", "foo": 1, "bar": 2, "id": 3}, ["foo", "bar"]),
    ],
)
def test_media_tools_and_unknown_keys_are_named(message, names):
    with pytest.raises(Unread) as unread:
        messages_of([message], "messages")
    assert unread.value.names == names
    assert "of turn 1 of messages" in str(unread.value) and names[0] in str(unread.value)


def test_keys_that_are_ignored_are_left_out():
    turns = [{**message, "foo": 1, "weight": 0.5} for message in flagged()]
    assert messages_of(turns, "messages", ["foo", "weight"]) == flagged()
