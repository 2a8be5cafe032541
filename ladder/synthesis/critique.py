"""Score answers with a judge or a reward model: four aspect grades, pairwise comparison, or one reward.

The prompt templates are files in prompts/preferences that users may edit. Their placeholders are {request} and the
answers.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ladder.chat.encode import Messages, encode
from ladder.data.jsonl import Row
from ladder.data.prompt_templates import fenced, fill, read_template
from ladder.judges.comparison import Side, compare
from ladder.judges.judge import Judge
from ladder.judges.parsers import Scale, parse_rating
from ladder.verifiers.reasoning import answer_of

if TYPE_CHECKING:
    from ladder.models.checkpoint import Model  # torch

ASPECTS = ("instruction_following", "truthfulness", "honesty", "helpfulness")
"""Aspects of UltraFeedback (Cui et al. 2023, arXiv:2310.01377, section 2.3), each graded 1 to 5 with a rationale."""
FIVE = Scale(tuple(map(str, range(1, 6))), "Rating: [[")
GAPS = {**dict.fromkeys(ASPECTS, {"request", "answer"}), "pairwise": {"request", "answer_first", "answer_second"}}
"""Placeholders of each template."""


@dataclass(frozen=True)
class Grade:
    """A judge's grade of one aspect."""

    rating: float
    rationale: str | None
    """None when the judge is a rung, which is asked for the rating only."""


def read_templates(directory: Path, names: tuple[str, ...]) -> dict[str, str]:
    """Read NAME.txt for each name. Errors: UserError naming the file, and a placeholder that is not one of GAPS."""
    return {name: read_template(directory / f"{name}.txt", GAPS[name]) for name in names}


def request(prompt: Messages) -> str:
    """Text of the conversation before the answer. With several turns, each one is prefixed by its role."""
    return "\n\n".join(f"{turn['role']}: {turn['content']}" if prompt[1:] else turn["content"] for turn in prompt)


def answer(row: Row) -> str:
    """The answer of a sample, without its reasoning."""
    return answer_of(str(row["completion"][0]["content"]))


def parse_grade(text: str) -> Grade | None:
    """Parse a reply, for example `It keeps to the topic. Rating: [[4]]`; the rationale is the text before the rating.

    Returns None without a rating from 1 to 5.
    """
    rating = parse_rating(text, 1, 5)
    if rating is None:
        return None
    return Grade(rating, text.split("[[")[0].strip().removesuffix("Rating:").strip())


def aspects(judge: Judge, rows: list[Row], templates: dict[str, str]) -> list[Row | None]:
    """Grade every row on four aspects; None where a rating is missing.

    Each result is {"score": mean of the four ratings, "aspects": {aspect: {"rating", "rationale"}}}. An endpoint writes
    a rationale and then its rating. A rung returns the expected rating (Judge.rate) without a rationale.
    """
    requests = [
        user(fill(templates[name], {"request": request(row["prompt"]), "answer": fenced(answer(row))}))
        for row in rows
        for name in ASPECTS
    ]
    grades: list[Grade | None]
    if judge.params.endpoint is None:
        rated = judge.rate(requests, FIVE, progress="aspects")
        grades = [None if one is None else Grade(round(one, 4), None) for one in rated]
    else:
        grades = judge.ask(requests, parse_grade, progress="aspects")
    return [_of_answer(grades[start : start + len(ASPECTS)]) for start in range(0, len(grades), len(ASPECTS))]


def _of_answer(grades: list[Grade | None]) -> Row | None:
    given = {name: grade for name, grade in zip(ASPECTS, grades, strict=True) if grade is not None}
    if len(given) < len(ASPECTS):
        return None
    score = sum(grade.rating for grade in given.values()) / len(given)
    graded_aspects = {name: {"rating": grade.rating, "rationale": grade.rationale} for name, grade in given.items()}
    return {"score": round(score, 4), "aspects": graded_aspects}


def compared(judge: Judge, contests: list[tuple[Row, Row]], template: str) -> list[Side | None]:
    """Compare answers pairwise in both orders: the preferred side, "tie" if the order decides, None without a verdict.

    Zheng et al. 2023 (arXiv:2306.05685), section 3.4.
    """
    pairs = [(_comparing(template, one, one, two), _comparing(template, one, two, one)) for one, two in contests]
    return [found.preferred for found in compare(judge, pairs, progress="pairs")]


def _comparing(template: str, asked: Row, first: Row, second: Row) -> Messages:
    values = {
        "request": request(asked["prompt"]),
        "answer_first": fenced(answer(first)),
        "answer_second": fenced(answer(second)),
    }
    return user(fill(template, values))


def reward_scores(model: "Model", rows: list[Row]) -> list[float]:
    """Reward of each sample's conversation. A truncated sample has no stop token."""
    from ladder.models.scoring import rewards  # torch

    ids = []
    for row in rows:
        answered = [*row["prompt"], {"role": "assistant", "content": answer(row)}]
        whole, _ = encode(model.tokenizer, answered, last_only=True)
        ids.append(whole if row["finished"] else whole[:-1])
    return [round(score, 4) for score in rewards(model, ids)]


def user(text: str) -> Messages:
    """Conversation with one user message."""
    return [{"role": "user", "content": text}]
