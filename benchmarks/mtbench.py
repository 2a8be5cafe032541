"""MT-Bench (Zheng et al. 2023, arXiv 2306.05685, Apache-2.0): a judge grades two turns of 80 questions from 1 to 10.

Each turn's answer is graded by itself, with the prompts that FastChat publishes: the second turn's show both turns,
those for math, reasoning and coding show GPT-4's reference answers. As FastChat's show_result does, the score is
the mean over all judgments, a category's or a turn's the mean over its own; a judgment without a grade is left out.

Two things are not as published, on purpose. Answers stand between fence lines (`ladder.fences`), so that one that
speaks to the judge is not obeyed: the prompts are FastChat's but for those lines, and the hash in the metric file is
of the prompts with them. And a reply is taken only if it names one grade, `[[5]]`: FastChat takes the first it
finds, also in single brackets, which a judge that quotes the answer can get wrong.
Published scores are GPT-4's grades: those of another judge, or of GPT-4 today, are not comparable with them. Nor
are greedy answers quite: FastChat draws writing and roleplay at temperature 0.7, stem and humanities at 0.1.
Some of GPT-4's reference answers are wrong; gpt-4-0125-preview.jsonl beside them has better ones, for other scores.

Rows: question.jsonl, joined with `judge_prompts` (all rows of judge_prompts.jsonl) and `reference_answer` (rows of
reference_answer/gpt-4.jsonl by question_id).
"""

from ladder.benchmarking import Answers, Question, Tools
from ladder.chat import Messages
from ladder.comparisons import Measure
from ladder.fences import fenced
from ladder.rows import Row
from ladder.run import Refused
from ladder.templates import fill, with_fences

CATEGORIES = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
REFERENCED = ("math", "reasoning", "coding")
"""The categories that are graded beside a reference answer."""
SINGLE = ("single-v1", "single-math-v1")
"""FastChat's prompts for one answer: in general, and beside a reference answer."""


def _grade(title: str, *turns: int) -> Measure:
    """The mean of the grades of these turns."""

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
    "unparseable": Measure(
        "judgments without a grade", "%", "lower", lambda row: row["unparseable"], lambda row: row["judged"], True
    ),
}
HEADLINE = ("score",)


def questions(rows: list[Row]) -> list[Question]:
    """Errors: Refused naming a row that is not one of MT-Bench's, with two turns and a known category."""
    for number, row in enumerate(rows, start=1):
        if row.get("category") not in CATEGORIES or len(row.get("turns", ())) != 2 or "question_id" not in row:
            raise Refused(f"mtbench: row {number}: expected question_id, a category and two turns, got {row!r:.200}")
    return [Question(str(row["question_id"]), tuple(row["turns"]), row["category"], row) for row in rows]


def score(questions: list[Question], answers: list[Answers], tools: Tools) -> list[Row]:
    """{"key", "group", "ratings": [samples][turns] of 1 to 10 or None, "judged", "unparseable", "verdicts"}."""
    if tools.judge is None:
        raise Refused("mtbench: needs a judge")
    by_key = {question.key: question for question in questions}
    requests = [
        request(by_key[answer.key], turn, SINGLE, {"answer": sample})
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


def request(question: Question, turn: int, names: tuple[str, str], said: dict[str, tuple[str, ...]]) -> Messages:
    """What the judge is asked about a turn (1 or 2) of answers, as FastChat asks it, but with answers fenced.

    said: by the prompt's name for an answer ("answer", "answer_a"), its turns.
    Errors: Refused where an answer lacks a turn, or the row lacks the prompt or the reference answer.
    """
    for turns in said.values():
        if len(turns) != 2:
            raise Refused(f"mtbench: question {question.key}: expected answers to two turns, got {len(turns)}")
    if turn == 1:
        values = {"question": question.turns[0], **{name: fenced(turns[0]) for name, turns in said.items()}}
    else:
        values = {"question_1": question.turns[0], "question_2": question.turns[1]}
        values |= {f"{name}_{which}": fenced(turns[which - 1]) for name, turns in said.items() for which in (1, 2)}
    if question.group in REFERENCED:
        references = published_turns(question, "reference_answer")
        values |= {f"ref_answer_{which}": references[which - 1] for which in range(1, turn + 1)}
    prompt = _prompt(question, names, turn)
    return [
        {"role": "system", "content": prompt["system_prompt"]},
        {"role": "user", "content": fill(prompt["prompt_template"], values)},
    ]


def _prompt(question: Question, names: tuple[str, str], turn: int) -> Row:
    name = names[question.group in REFERENCED] + ("-multi-turn" if turn == 2 else "")
    found = next((prompt for prompt in question.row.get("judge_prompts", []) if prompt["name"] == name), None)
    if found is None:
        raise Refused(
            f"mtbench: question {question.key}: no prompt {name!r} in column 'judge_prompts'; "
            f"the task's entry in params.yaml joins it"
        )
    return found


def published_turns(question: Question, column: str) -> tuple[str, ...]:
    """The two turns of an answer in FastChat's own form, from a joined column. Errors: Refused where it lacks."""
    try:
        first, second = question.row[column][0]["choices"][0]["turns"]
    except (KeyError, IndexError, ValueError):
        raise Refused(
            f"mtbench: question {question.key}: no answer of two turns in column {column!r}; "
            f"the task's entry in params.yaml joins it by question_id"
        ) from None
    return first, second


def templates(questions: list[Question], names: tuple[str, str] = SINGLE) -> tuple[str, ...]:
    """The prompts that these questions ask, fences in their places: the texts that the metric file's hash is of."""
    asked = [_prompt(question, names, turn) for question in questions for turn in (1, 2)]
    by_name = {
        prompt["name"]: f"{prompt['system_prompt']}\n{with_fences(prompt['prompt_template'])}" for prompt in asked
    }
    return tuple(by_name[name] for name in sorted(by_name))
