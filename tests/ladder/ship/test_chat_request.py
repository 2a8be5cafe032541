"""Requests that OpenAI's client sends are read; a key that is not served is refused by its name."""

import pytest

from ladder.inference.types import Sampling
from ladder.ship.chat_request import Refused, read_request

TURN = {"role": "user", "content": "Hi"}
ASKED = {"model": "m", "messages": [TURN]}


def test_defaults_are_those_of_openai():
    assert read_request(ASKED).sampling(512, 3) == Sampling(temperature=1.0, top_p=1.0, max_new_tokens=512, seed=3)


def test_every_key_reaches_the_sampling():
    asked = read_request({**ASKED, "temperature": 0, "top_p": 0.5, "max_tokens": 9, "seed": 4, "stop": ["a", "b"]})
    assert asked.sampling(512, 3) == Sampling(temperature=0.0, top_p=0.5, max_new_tokens=9, seed=4)
    assert asked.stops == ["a", "b"] and read_request({**ASKED, "stop": "a"}).stops == ["a"]
    assert read_request({**ASKED, "max_completion_tokens": 5}).sampling(512, 3).max_new_tokens == 5


def test_parts_of_text_are_joined_and_developer_is_system():
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    asked = read_request({**ASKED, "messages": [{"role": "developer", "content": parts}, TURN]})
    assert asked.conversation == [{"role": "system", "content": "one two"}, TURN]


def test_keys_that_ask_for_nothing_are_accepted():
    neutral = {"n": 1, "tools": [], "frequency_penalty": 0, "presence_penalty": 0.0, "logprobs": False, "stop": None}
    read_request({**ASKED, **neutral, "response_format": {"type": "text"}, "stream": False})


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"tools": [{"type": "function"}]}, "tools: not served by this server; remove it"),
        ({"logprobs": True}, "logprobs: not served by this server; remove it"),
        ({"frequency_penalty": 0.5}, "frequency_penalty: not served by this server; remove it"),
        ({"frequency_penalty": False}, "frequency_penalty: not served by this server; remove it"),
        ({"top_k": 5}, "top_k: not served by this server; remove it"),
        ({"n": 2}, "n: expected 1"),
        ({"temperature": 3}, "temperature: expected a value less than or equal to 2"),
        ({"temperature": "0"}, "temperature: expected a valid number"),
        ({"temperature": 1e-7}, "temperature: expected 0 or at least 1e-06, got 1e-07"),
        ({"top_p": 0}, "top_p: expected a value greater than or equal to 0.000000001"),
        ({"max_tokens": 0}, "max_tokens: expected a value greater than or equal to 1"),
        (
            {"max_tokens": 1, "max_completion_tokens": 1},
            "max_tokens: given together with max_completion_tokens; expected one of them",
        ),
        ({"stream_options": {"include_usage": True}}, "stream_options: expected only with stream: true"),
        ({"stop": [""]}, "stop: expected texts with at least one character"),
        ({"messages": []}, "messages: List should have at least 1 item after validation, not 0"),
        (
            {"messages": [{"role": "robot", "content": ""}]},
            "messages[0].role: expected 'system', 'developer', 'user', 'assistant' or 'tool'",
        ),
        ({"messages": [TURN, {**TURN, "name": "x"}]}, "messages[1].name: not served by this server; remove it"),
        (
            {"messages": [{**TURN, "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content: expected a text, or parts of type text",
        ),
    ],
)
def test_a_key_that_is_not_served_is_named(more, said):
    with pytest.raises(Refused) as refused:
        read_request({**ASKED, **more})
    assert str(refused.value) == said
    assert refused.value.key == said.partition(":")[0] and refused.value.status == 400


def test_a_body_without_a_model_or_that_is_no_object_is_refused():
    with pytest.raises(Refused, match="model: missing"):
        read_request({"messages": [TURN]})
    with pytest.raises(Refused, match="the body: expected a JSON object, got list"):
        read_request([])
