"""A model asked a benchmark's questions: turn after turn, as many samples as are wanted, one row a turn."""

from collections.abc import Callable
from pathlib import Path

from pydantic import Field, model_validator

from ladder.chat.encode import Messages
from ladder.data.jsonl import Row, column, read_rows
from ladder.inference.local import Answer
from ladder.inference.sampling import Sampling
from ladder.pipeline.stage import Config, UserError
from ladder.verifiers.reasoning import answer_of

Speak = Callable[[list[Messages], Sampling], list[Answer]]
"""Conversations, each up to the user's last turn, are answered in their order."""


class Asking(Config):
    """How a benchmark is asked: alike for every model, so that they compare question by question."""

    rows: int = Field(0, ge=0)
    """Size of the fixed stratified part of the benchmark that is asked; 0 asks all of it."""
    max_new_tokens: int = Field(ge=1)
    """An answer that has not ended by then is cut."""
    samples: int = Field(1, ge=1)
    """Answers to each question: pass@k needs several."""
    temperature: float = Field(0.0, ge=0)
    """0 takes the likeliest token."""
    seed: int = 0

    @model_validator(mode="after")
    def differ(self) -> "Asking":
        if self.samples > 1 and self.temperature == 0:
            raise ValueError("samples of temperature 0 are all the same; give a temperature")
        return self


def read_questions(path: Path, rows: int) -> list[Row]:
    """The first `rows` of a file of {"key", "turns", "group"}; 0 is all. Errors: UserError when there are fewer."""
    questions = read_rows(path)
    column(questions, "key", str, path)
    column(questions, "turns", list, path)
    if rows > len(questions):
        raise UserError(f"rows: {path} has {len(questions)} questions, not {rows}; 0 asks all")
    return questions[: rows or None]


def respond(questions: list[Row], speak: Speak, params: Asking) -> list[Row]:
    """Ask every question's first turn, then the second of those that have one, and so on.

    A later turn is asked after the answers without their reasoning, as reasoning models are trained.
    Returns rows {"key", "sample", "turn", "prompt", "response", "tokens", "finished"} by question, sample and turn.
    """
    asked = [(question, sample) for question in questions for sample in range(params.samples)]
    conversations: list[Messages] = [[] for _ in asked]
    rows: list[list[Row]] = [[] for _ in asked]
    for turn in range(max(len(question["turns"]) for question in questions)):
        going = [place for place, (question, _) in enumerate(asked) if turn < len(question["turns"])]
        for place in going:
            conversations[place].append({"role": "user", "content": asked[place][0]["turns"][turn]})
        sampling = Sampling(params.temperature, max_new_tokens=params.max_new_tokens, seed=params.seed + turn)
        answers = speak([conversations[place] for place in going], sampling)
        for place, said in zip(going, answers, strict=True):
            question, sample = asked[place]
            conversations[place].append({"role": "assistant", "content": answer_of(said.text)})
            rows[place].append(
                {
                    "key": question["key"],
                    "sample": sample,
                    "turn": turn,
                    "prompt": question["turns"][turn],
                    "response": said.text,
                    "tokens": said.tokens,
                    "finished": said.finished,
                }
            )
    return [row for found in rows for row in found]
