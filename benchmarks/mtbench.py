"""MT-Bench (Zheng et al. 2023, arXiv 2306.05685, Apache-2.0): a judge grades two turns of 80 questions from 1 to 10.

Each turn's answer is graded separately, with FastChat's published prompts. Those for the second turn show both turns;
those for math, reasoning and coding show GPT-4's reference answers. As in FastChat's show_result, the score is the
mean over all judgments, and that of a category or turn the mean over its own. A judgment without a grade is left out.

Two things deliberately differ from the published benchmark:
- Answers are between fence lines (`prompt_templates.fenced`): the judge does not obey instructions in an answer.
  The prompts are FastChat's except for these lines; the hash in the metric file covers the prompts with them.
- A reply is accepted only if it names one grade, `[[5]]`. FastChat takes the first grade that it finds, also in single
  brackets, which goes wrong when a judge quotes the answer.

Published scores are GPT-4's grades: those of another judge, or of GPT-4 today, are not comparable with them. Greedy
answers are not quite comparable either: FastChat samples writing and roleplay at temperature 0.7, stem and humanities
at 0.1. Some of GPT-4's reference answers are wrong; gpt-4-0125-preview.jsonl beside them has better ones, which give
other scores.

Rows: question.jsonl, joined with `judge_prompts` (all rows of judge_prompts.jsonl) and `reference_answer` (rows of
reference_answer/gpt-4.jsonl by question_id).
"""

from ladder.data.jsonl import Row
from ladder.eval import mt_bench
from ladder.eval.benchmark import Answers, Question, Tools
from ladder.eval.measure import Measure
from ladder.eval.mt_bench import questions as questions
from ladder.pipeline.stage import UserError

SINGLE = ("single-v1", "single-math-v1")
"""FastChat's prompts for one answer: without and with a reference answer."""


def _grade(title: str, *turns: int) -> Measure:
    """Build the measure of the mean grade over these turns."""

    def grades(row: Row) -> list[float]:
        found = [sample[turn - 1] for sample in row["ratings"] for turn in turns]
        return [grade for grade in found if grade is not None]

    return Measure(
        title, "of 10", "higher", lambda row: float(sum(grades(row))), lambda row: float(len(grades(row))), False
    )


MEASURES = {
    "score": _grade("mean grade of both turns", 1, 2),
    "first_turn": _grade("mean grade of the first turn", 1),
    "second_turn": _grade("mean grade of the second turn", 2),
    "unparseable": mt_bench.UNPARSEABLE,
}
HEADLINE = ("score",)


def templates(questions: list[Question]) -> tuple[str, ...]:
    """Return the texts that the metric file's hash covers."""
    return mt_bench.templates(questions, SINGLE)


def score(questions: list[Question], answers: list[Answers], tools: Tools) -> list[Row]:
    """Score answers: {"key", "group", "ratings": [samples][turns] of 1 to 10 or None, "judged", "unparseable",
    "verdicts"}."""
    if tools.judge is None:
        raise UserError("mtbench: no judge; expected one. Set benchmark.mtbench.judge.")
    by_key = {question.key: question for question in questions}
    requests = [
        mt_bench.request(by_key[answer.key], turn, SINGLE, {"answer": sample})
        for answer in answers
        for sample in answer.samples
        for turn in (1, 2)
    ]
    grades = iter(tools.judge.rate(requests, progress="mtbench"))
    return [_row(by_key[answer.key], [[next(grades), next(grades)] for _ in answer.samples]) for answer in answers]


def _row(question: Question, ratings: list[list[float | None]]) -> Row:
    flat = [grade for sample in ratings for grade in sample]
    return {
        "key": question.key,
        "group": question.group,
        "ratings": ratings,
        "judged": len(flat),
        "unparseable": flat.count(None),
        "verdicts": [
            [f"turn {turn}", "unparseable" if grade is None else grade]
            for sample in ratings
            for turn, grade in enumerate(sample, start=1)
        ],
    }
