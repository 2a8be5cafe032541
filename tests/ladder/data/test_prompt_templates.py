import pytest

from ladder.data.prompt_templates import fill, with_fences
from ladder.pipeline.stage import UserError


def test_what_fills_a_gap_is_not_read_as_one():
    text = fill(
        '{"a": """{instruction}""", {1}}\n{output_1} {output_2}{1}',
        {**dict.fromkeys(["instruction", "1"], "{output_1}"), "output_1": "{output_2} \\1", "output_2": "x"},
    )
    assert text == '{"a": """{output_1}""", {output_1}}\n{output_2} \\1 x{output_1}'


@pytest.mark.parametrize("values", [{}, {"answer": "x", "question": "y", "answer_2": "z"}])
def test_every_gap_has_a_value_and_every_value_a_gap(values: dict[str, str]):
    with pytest.raises(UserError, match="answer"):
        fill("{question} {answer}" if values else "{answer}", values)


def test_fences_stand_around_answers_alone():
    text = with_fences("{question}\n{answer_a}\n{ref_answer_1}\n{output_1}")
    lines = text.splitlines()
    assert [line for line in lines if line.startswith("{")] == [
        "{question}",
        "{answer_a}",
        "{ref_answer_1}",
        "{output_1}",
    ]
    assert [line.startswith("<<<") for line in lines] == [False, True, False, True, False, True, False, True]
