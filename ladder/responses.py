"""Answers to a benchmark as rows, made here or elsewhere, matched to its questions.

A row has a `response` and says what it answers by `key` or by `prompt`, a question's exact text. `sample` and `turn`
count from 0, where there are several; `tokens` and `finished` may be there.
"""

import difflib
from typing import Any, NamedTuple

from ladder.benchmarking import Answers, Question
from ladder.rows import Row, column
from ladder.run import Refused

NEAR = 0.9
"""How alike two prompts are that differ in wording only: difflib's ratio."""


class Place(NamedTuple):
    """What a row answers."""

    key: str
    sample: int
    turn: int


class Read(NamedTuple):
    answers: list[Answers]
    """In the order in which they first stand in the rows."""
    reworded: list[int]
    """Numbers, from 1, of the rows whose prompt is not worded as that of the question they answer."""


def read_answers(questions: list[Question], rows: list[Row], file: Any) -> Read:
    """The answers to each question that has some.

    A row without a key whose prompt is no question's answers the one that is worded nearly so, if there is one and no
    row has it word for word. file: what the rows are called in a refusal. Errors: Refused naming the row that answers
    no question, or one that is answered already, and the question of which a turn is missing.
    """
    column(rows, "response", str, file)
    index = _Index(questions, {row["prompt"] for row in rows if isinstance(row.get("prompt"), str)})
    found: dict[Place, int] = {}
    for number, row in enumerate(rows, start=1):
        place = index.place(row, f"{file}: row {number}")
        if place in found:
            raise Refused(
                f"{file}: row {number}: key {place.key!r} is answered already in row {found[place]}; "
                'several answers to one question have their numbers under "sample": 0, 1, …'
            )
        found[place] = number
    samples: dict[str, dict[int, dict[int, Row]]] = {}
    for place, number in found.items():
        samples.setdefault(place.key, {}).setdefault(place.sample, {})[place.turn] = rows[number - 1]
    for key, of_key in samples.items():
        expected = len(index.by_key[key].turns)
        for sample, turns in of_key.items():
            if len(turns) != expected:
                raise Refused(
                    f"{file}: key {key!r}, sample {sample}: expected an answer to each of its {expected} turns, "
                    f"got {len(turns)}"
                )
    others = [
        number
        for place, number in found.items()
        if rows[number - 1].get("prompt", text := index.by_key[place.key].turns[place.turn]) != text
    ]
    return Read([_answers(key, samples[key]) for key in samples], others)


def missing(questions: list[Question], answers: list[Answers]) -> list[str]:
    """Keys of the questions that have no answer."""
    answered = {answer.key for answer in answers}
    return [question.key for question in questions if question.key not in answered]


class _Index:
    """A benchmark's questions by key and by the text of each turn. given: the prompts that rows have."""

    def __init__(self, questions: list[Question], given: set[str]) -> None:
        self.by_key = {question.key: question for question in questions}
        self.by_prompt: dict[str, list[tuple[str, int]]] = {}
        for question in questions:
            for turn, text in enumerate(question.turns):
                self.by_prompt.setdefault(text, []).append((question.key, turn))
        self.free = [text for text in self.by_prompt if text not in given]

    def place(self, row: Row, where: str) -> Place:
        """What a row answers. Errors: Refused."""
        sample, turn = _count(row, "sample", where), _count(row, "turn", where)
        if "key" in row:
            key = str(row["key"])
            if key not in self.by_key:
                raise Refused(f"{where}: key {row['key']!r} is none of the benchmark's")
        elif isinstance(row.get("prompt"), str):
            key, turn = self.asked(row["prompt"], where)
        else:
            raise Refused(f'{where}: expected a "key" or a "prompt" that says what it answers')
        if turn >= len(self.by_key[key].turns):
            raise Refused(f"{where}: turn {turn}: key {key!r} has turns 0 to {len(self.by_key[key].turns) - 1}")
        return Place(key, sample, turn)

    def asked(self, prompt: str, where: str) -> tuple[str, int]:
        """Key and turn of a prompt. Errors: Refused where it is no question's, or that of several."""
        near = [] if prompt in self.by_prompt else difflib.get_close_matches(prompt, self.free, n=2, cutoff=NEAR)
        places = [place for text in near or [prompt] for place in self.by_prompt.get(text, [])]
        if len(places) != 1:
            told = f"it is that of {len(places)} questions" if places else "it is none of the benchmark's"
            raise Refused(f'{where}: its prompt does not say what it answers, {told}; give it a "key"')
        return places[0]


def _count(row: Row, name: str, where: str) -> int:
    value = row.get(name, 0)
    if type(value) is not int or value < 0:
        raise Refused(f"{where}: expected {name!r} to be a whole number from 0, got {value!r}")
    return value


def _answers(key: str, samples: dict[int, dict[int, Row]]) -> Answers:
    """samples: {sample: {turn: row}}."""
    ordered = [[turns[turn] for turn in sorted(turns)] for _, turns in sorted(samples.items())]
    rows = [row for turns in ordered for row in turns]
    tokens = tuple(sum(row["tokens"] for row in turns) for turns in ordered) if _all_have(rows, "tokens") else ()
    finished = tuple(all(row["finished"] for row in turns) for turns in ordered) if _all_have(rows, "finished") else ()
    return Answers(key, tuple(tuple(row["response"] for row in turns) for turns in ordered), tokens, finished)


def _all_have(rows: list[Row], name: str) -> bool:
    return all(name in row for row in rows)
