import pytest
from pydantic import ValidationError

from ladder.data.jsonl import write_rows
from ladder.eval.ask import Asking, answer_questions, read_questions
from ladder.inference.local import engine_of
from ladder.inference.types import Answer, Sampling
from ladder.models.checkpoint import load
from ladder.pipeline.stage import UserError

QUESTIONS = [
    {"key": "a", "turns": ["one", "two"], "group": "g"},
    {"key": "b", "turns": ["solo"], "group": "g"},
]


def test_all_first_turns_are_asked_before_the_second_ones():
    calls = []

    def generate(conversations, sampling):
        calls.append(([[message["content"] for message in messages] for messages in conversations], sampling))
        return [Answer(f"to {messages[-1]['content']}", 3, True) for messages in conversations]

    rows = answer_questions(QUESTIONS, generate, Asking(max_new_tokens=5, samples=2, temperature=0.5, seed=7))
    assert calls == [
        ([["one"], ["one"], ["solo"], ["solo"]], Sampling(0.5, 1.0, 5, 7)),
        ([["one", "to one", "two"]] * 2, Sampling(0.5, 1.0, 5, 8)),
    ]
    assert [(row["key"], row["sample"], row["turn"], row["response"]) for row in rows] == [
        ("a", 0, 0, "to one"), ("a", 0, 1, "to two"), ("a", 1, 0, "to one"), ("a", 1, 1, "to two"),
        ("b", 0, 0, "to solo"), ("b", 1, 0, "to solo"),
    ]  # fmt: skip
    assert list(rows[1]) == ["key", "sample", "turn", "prompt", "response", "tokens", "finished"]
    assert rows[1]["prompt"] == "two"


def test_samples_of_a_rung_differ_and_a_shorter_part_is_answered_alike(base):
    engine = engine_of(load(base, base))
    params = Asking(max_new_tokens=6, samples=3, temperature=1.0)

    def generate(conversations, sampling):
        return engine.generate(conversations, sampling)

    whole = answer_questions(QUESTIONS, generate, params)
    assert len({row["response"] for row in whole if (row["key"], row["turn"]) == ("a", 0)}) == 3
    assert answer_questions(QUESTIONS[:1], generate, params) == [row for row in whole if row["key"] == "a"]


def test_samples_without_a_temperature_are_refused():
    with pytest.raises(ValidationError, match="samples: expected 1 at temperature 0"):
        Asking(max_new_tokens=5, samples=2)


def test_refuses_more_questions_than_there_are(tmp_path):
    write_rows(tmp_path / "asked.jsonl", QUESTIONS)
    assert [row["key"] for row in read_questions(tmp_path / "asked.jsonl", 0)] == ["a", "b"]
    assert [row["key"] for row in read_questions(tmp_path / "asked.jsonl", 1)] == ["a"]
    with pytest.raises(UserError, match="expected at most 2, the questions of .*, got 3. 0 asks all"):
        read_questions(tmp_path / "asked.jsonl", 3)
