from typing import Literal

import pytest
from pydantic import Field
from test_client import asked, client_of, number_of

from endpoints import Said, says, serving
from ladder.data.jsonl import Row
from ladder.inference.structured_output import read_object, response_format
from ladder.pipeline.stage import Config, UserError
from ladder.verifiers.reasoning import answer_of

pytestmark = pytest.mark.usefixtures("work")


class Grades(Config):
    helpful: int = Field(ge=1, le=5)
    why: str


@pytest.mark.parametrize(
    "text",
    [
        '{"helpful": 4, "why": "clear"}',
        ' {"why": "clear", "helpful": 4}\n',
        '```json\n{"helpful": 4, "why": "clear"}\n```',
        '```\n{\n"helpful": 4,\n"why": "clear"}\n```\n',
        '````JSON\n{"helpful": 4, "why": "clear"}\n````',
        '~~~json\n{"helpful": 4, "why": "clear"}\n~~~',
        '<think>\nA 3? {"helpful": 3}\n</think>\n\n{"helpful": 4, "why": "clear"}',
        'A 3?\n</think>\n```json\n{"helpful": 4, "why": "clear"}\n```',
    ],
)
def test_an_object_of_the_schema_is_read(text: str) -> None:
    assert read_object(text, Grades) == Grades(helpful=4, why="clear")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Expecting value: line 1 column 1"),
        ("Four.", "Expecting value: line 1 column 1"),
        ('{"helpful": 4, "why": "cl', "Unterminated string starting at"),
        ('{"helpful": 4, "why": "clear"} I hope so.', "Extra data"),
        ("[4]", "the reply: Input should be a valid dictionary"),
        ('{"helpful": "4", "why": "clear"}', "helpful: Input should be a valid integer"),
        ('{"helpful": 6, "why": "clear"}', "helpful: Input should be less than or equal to 5"),
        ('{"helpful": 4}', "why: Field required"),
        ('{"helpful": 4, "why": "clear", "sure": true}', "sure: Extra inputs are not permitted"),
        ('{"helpful": 4, "helpful": 5, "why": "clear"}', "duplicate key 'helpful'"),
        ('{"helpful": NaN, "why": "clear"}', "NaN is not a JSON value"),
        ("[" * 200_000, "JSON nested too deeply"),
    ],
)
def test_what_is_wrong_is_said(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_object(text, Grades)


def test_the_format_is_the_endpoints_field() -> None:
    form = response_format(Grades)
    assert (form["type"], form["json_schema"]["name"], form["json_schema"]["strict"]) == ("json_schema", "Grades", True)
    schema = form["json_schema"]["schema"]
    assert schema["properties"]["helpful"] == {"title": "Helpful", "type": "integer", "minimum": 1, "maximum": 5}
    assert (schema["required"], schema["additionalProperties"]) == (["helpful", "why"], False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\n<think>\n[[3]]?\n</think>\n\nRating: [[4]]", "Rating: [[4]]"),
        ("[[3]]?</think>[[4]]", "[[4]]"),  # its template writes the opening tag
        ("<think>[[3]], or rather", ""),  # truncated before the answer
        ("<think></think>", ""),
        ("It says <think>so</think>. [[4]]", "It says <think>so</think>. [[4]]"),
        ('{"why": "it ends in </think>", "helpful": 4}', '{"why": "it ends in </think>", "helpful": 4}'),
        (" [[4]] ", " [[4]] "),
    ],
)
def test_what_is_thought_before_a_reply_is_no_part_of_it(text: str, said: str) -> None:
    assert answer_of(text) == said


class Verdict(Config):
    grade: Literal["good", "bad"]
    why: str


GOOD = '{"grade": "good", "why": "short"}'


def test_a_schema_is_sent_and_its_object_comes_back() -> None:
    with serving(says(Said(GOOD))) as server:
        (reply,) = client_of(server).ask(asked(1, Verdict), progress="")
        assert reply and reply.value == Verdict(grade="good", why="short")
        (sent,) = server.asked
    schema = {
        "title": "Verdict",
        "type": "object",
        "properties": {
            "grade": {"title": "Grade", "enum": ["good", "bad"], "type": "string"},
            "why": {"title": "Why", "type": "string"},
        },
        "required": ["grade", "why"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "Verdict", "schema": schema, "strict": True}}
    assert sent["response_format"] == form


def test_what_is_no_object_of_the_schema_is_repaired_or_rejected_and_counted() -> None:
    first = {0: Said(GOOD), 1: Said('{"grade": "fine"}'), 2: Said("Good!"), 3: Said(GOOD[:-9])}

    def lies(body: Row, _: int) -> Said:
        if len(body["messages"]) == 1:
            return first[number_of(body)]
        return Said("Good, as I said.") if number_of(body) == 2 else Said(f"```json\n{GOOD}\n```")

    with serving(lies) as server:
        client = client_of(server, max_failed=0.2)
        replies = client.ask(asked(4, Verdict), progress="")
        assert [reply and reply.value.grade for reply in replies] == ["good", "good", None, "good"]
        assert (client.repaired, client.rejected) == (2, 1)
        assert len(server.asked) == 4 + 3
        second = next(one for one in server.asked if len(one["messages"]) == 3 and number_of(one) == 1)
        assert second["messages"][1] == {"role": "assistant", "content": '{"grade": "fine"}'}
        shown = second["messages"][2]["content"]
        assert "grade: Input should be 'good' or 'bad'; why: Field required" in shown
        assert client_of(server, max_failed=0.2).ask(asked(4, Verdict), progress="") == replies
        assert len(server.asked) == 4 + 3
        with pytest.raises(UserError, match="returned no valid JSON object: Expecting value.*; 1 of 7 requests"):
            client_of(server).ask(asked(4, Verdict), progress="")


def test_a_server_that_takes_no_schema_is_asked_without(capsys: pytest.CaptureFixture[str]) -> None:
    def old(body: Row, _: int) -> Said:
        return Said("unknown field response_format", status=400) if "response_format" in body else Said(GOOD)

    with serving(old) as server:
        client = client_of(server, retries=0, concurrency=1)
        assert [reply and reply.value.grade for reply in client.ask(asked(3, Verdict), progress="")] == ["good"] * 3
        assert len(server.asked) == 4
        assert client.bought.requests == 3
        client_of(server).ask(asked(3, Verdict), progress="")
        assert len(server.asked) == 4
    assert capsys.readouterr().err.count("answered 400 to a JSON schema") == 1
