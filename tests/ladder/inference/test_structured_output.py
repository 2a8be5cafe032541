import pytest
from pydantic import Field

from ladder.inference.structured_output import read_object, response_format
from ladder.pipeline.stage import Config
from ladder.verifiers.reasoning import answer_of


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
