"""Ask a model a benchmark's questions: all turns and samples, one output row per turn."""

from pathlib import Path

from pydantic import Field, model_validator

from ladder.chat.rendering import Messages
from ladder.data.jsonl import Row, column, read_rows
from ladder.inference.engines import RungSettings
from ladder.inference.types import Generate, Sampling
from ladder.pipeline.stage import UserError
from ladder.verifiers.reasoning import answer_of


class Asking(RungSettings):
    """How a benchmark is asked: alike for every model, so that they compare question by question."""

    rows: int = Field(0, ge=0)
    """Size of the fixed stratified subset of the benchmark that is asked; 0 asks all questions."""
    max_new_tokens: int = Field(ge=1)
    """Maximum length of an answer in tokens; longer answers are truncated."""
    samples: int = Field(1, ge=1)
    """Number of answers per question; pass@k needs several."""
    temperature: float = Field(0.0, ge=0)
    """Sampling temperature; 0 is greedy decoding."""
    seed: int = 0
    """Seed of sampling."""

    @model_validator(mode="after")
    def differ(self) -> "Asking":
        """Check that several samples have a temperature above 0; greedy samples would be identical."""
        if self.samples > 1 and self.temperature == 0:
            raise ValueError("samples: expected 1 at temperature 0, where all samples are equal. Set a temperature.")
        return self


def read_questions(path: Path, rows: int) -> list[Row]:
    """Read the first `rows` questions {"key", "turns", "group"}; 0 reads all. Errors: UserError if there are fewer."""
    questions = read_rows(path)
    column(questions, "key", str, path)
    column(questions, "turns", list, path)
    if rows > len(questions):
        raise UserError(f"rows: expected at most {len(questions)}, the questions of {path}, got {rows}. 0 asks all.")
    return questions[: rows or None]


def answer_questions(questions: list[Row], generate: Generate, params: Asking) -> list[Row]:
    """Ask the first turn of every question, then the second turn of those that have one, and so on.

    Earlier answers in a conversation are shown without their reasoning, as reasoning models are trained.
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
        answers = generate([conversations[place] for place in going], sampling)
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
