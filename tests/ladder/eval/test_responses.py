import pytest

from ladder.eval.benchmark import Question
from ladder.eval.responses import missing, read_answers
from ladder.pipeline.stage import UserError

LONG = "Name the shrines of the Shinto religion that stand in the city of Kyoto, in the order of their age."
QUESTIONS = [
    Question("1", ("What is one?",), "a"),
    Question("2", ("First?", "And then?"), "b"),
    Question("3", (LONG,), "a"),
    Question("4", ("Twice.",), "a"),
    Question("5", ("Twice.",), "a"),
]


def said(response, **columns):
    return {**columns, "response": response}


def test_rows_made_here_become_samples_of_turns():
    facts = {"finished": True}
    rows = [
        said("s1t0", key="2", sample=1, turn=0, prompt="First?", tokens=3, **facts),
        said("s0t0", key="2", sample=0, turn=0, prompt="First?", tokens=1, **facts),
        said("s0t1", key="2", sample=0, turn=1, prompt="And then?", tokens=2, **facts),
        said("s1t1", key="2", sample=1, turn=1, prompt="And then?", tokens=4, finished=False),
    ]
    (answer,), reworded = read_answers(QUESTIONS, rows, "file")
    assert answer.samples == (("s0t0", "s0t1"), ("s1t0", "s1t1"))
    assert (answer.tokens, answer.finished) == ((3, 7), (True, False))
    assert reworded == []


def test_rows_made_elsewhere_match_by_prompt_or_by_key_in_their_own_order():
    rows = [
        said("b2", prompt="And then?"),
        said("b1", prompt="First?"),
        said("a", key=1),  # IFEval's keys are numbers
    ]
    answers, _ = read_answers(QUESTIONS, rows, "file")
    assert [(answer.key, answer.samples) for answer in answers] == [("2", (("b1", "b2"),)), ("1", (("a",),))]
    assert answers[0].tokens == answers[0].finished == ()
    assert missing(QUESTIONS, answers) == ["3", "4", "5"]


def test_a_prompt_worded_nearly_as_one_without_another_answer_is_reported():
    other = LONG.replace("Shinto religion", "Shinto shrine religion")
    answers, reworded = read_answers(QUESTIONS, [said("a", key="1"), said("c", prompt=other)], "file")
    assert [answer.key for answer in answers] == ["1", "3"] and reworded == [2]
    with pytest.raises(UserError, match="file: row 2: its prompt does not identify the question: it is not"):
        read_answers(QUESTIONS, [said("a", prompt=LONG), said("b", prompt=other)], "file")


def test_a_prompt_may_be_worded_otherwise_or_hold_more_than_the_question_of_its_key():
    other = LONG.replace("Shinto religion", "Shinto shrine religion").upper()
    rendered = f"<|im_start|>user\n{LONG}<|im_end|>\n<|im_start|>assistant\n"
    for prompt in (other, rendered, f"  {LONG}\n", [{"role": "user", "content": LONG}]):
        (answer,), _ = read_answers(QUESTIONS, [said("a", key="3", prompt=prompt)], "file")
        assert answer.key == "3"
    assert read_answers(QUESTIONS, [said("a", key=3.0)], "file").answers[0].key == "3"


def test_rows_of_other_benchmarks_are_left_out_when_asked():
    foreign: list[int] = []
    rows = [said("a", key="9"), said("b", key="1"), said("c", prompt="Who are you?")]
    answers, _ = read_answers(QUESTIONS, rows, "file", foreign)
    assert ([answer.key for answer in answers], foreign) == (["1"], [1, 3])
    with pytest.raises(UserError, match="file: none of its 1 rows answers a question of the benchmark"):
        read_answers(QUESTIONS, rows[:1], "file", [])
    with pytest.raises(UserError, match="no such question in the benchmark. --skip-foreign leaves these rows out"):
        read_answers(QUESTIONS, rows, "file")


def test_a_key_decides_where_the_prompt_reads_otherwise_and_that_is_reported():
    answers, reworded = read_answers(QUESTIONS, [said("a", key="1", prompt="What is 1?")], "file")
    assert (answers[0].key, reworded) == ("1", [1])


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (
            [said("a", key="1", prompt=LONG)],
            "row 1: its key and its prompt contradict .* belongs to key '3', not to key '1'",
        ),
        ([said("a", key="3", prompt="What is one?")], "belongs to key '1', not to key '3'. 1 of 1 rows do"),
        ([said("a", key="1", prompt="Write a poem.")], "the prompt 'Write a poem.' does not belong to key '1'"),
        ([said("a", key="9")], "file: row 1: key '9': no such question in the benchmark"),
        ([said("a", prompt="Who are you?")], 'row 1: its prompt .*: it is not in the benchmark. Add a "key"'),
        ([said("a", prompt="Twice.")], 'row 1: its prompt .*: it belongs to 2 questions. Add a "key"'),
        ([said("a")], 'row 1: expected a "key" or a "prompt"'),
        ([said(None, key="1")], "row 1: expected 'response' of type str"),
        ([said("a", key="1"), said("b", prompt="What is one?")], "row 2: key '1' is already answered in row 1"),
        ([said("a", key="1", turn=1)], "row 1: turn 1: key '1' has turns 0 to 0"),
        ([said("a", key="1", sample="x")], "row 1: sample: expected a whole number of 0 or more, got 'x'"),
        ([said("a", key="2")], "key '2', sample 0: expected an answer to each of its 2 turns, got 1"),
    ],
)
def test_refuses_rows_that_do_not_say_what_they_answer_once(rows, sentence):
    with pytest.raises(UserError, match=sentence):
        read_answers(QUESTIONS, rows, "file")
