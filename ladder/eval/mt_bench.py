"""MT-Bench's questions and FastChat's judge prompts, shared by single grading and pairwise comparison.

Source: Zheng et al. 2023, arXiv 2306.05685. benchmarks/mtbench.py lists the differences from the published benchmark.
"""

from ladder.chat.encode import Messages
from ladder.data.jsonl import Row
from ladder.data.prompt_templates import fenced, fill, with_fences
from ladder.eval.benchmark import Question
from ladder.eval.measure import Measure
from ladder.pipeline.stage import UserError

CATEGORIES = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
REFERENCED = ("math", "reasoning", "coding")
"""Categories that are graded with a reference answer."""
UNPARSEABLE = Measure(
    "judgments without a verdict", "%", "lower", lambda row: row["unparseable"], lambda row: row["judged"], True
)


def questions(rows: list[Row]) -> list[Question]:
    """Build the questions. Errors: UserError naming a row without two turns, a question_id or a known category."""
    for number, row in enumerate(rows, start=1):
        if row.get("category") not in CATEGORIES or len(row.get("turns", ())) != 2 or "question_id" not in row:
            raise UserError(f"mtbench: row {number}: expected question_id, a category and two turns, got {row!r:.200}")
    return [Question(str(row["question_id"]), tuple(row["turns"]), row["category"], row) for row in rows]


def request(question: Question, turn: int, names: tuple[str, str], said: dict[str, tuple[str, ...]]) -> Messages:
    """Build the judge request for a turn (1 or 2) of answers: FastChat's prompt, with the answers fenced.

    said: the turns of each answer, by its name in the prompt ("answer", "answer_a").
    Errors: UserError when an answer lacks a turn, or the row lacks the prompt or the reference answer.
    """
    for turns in said.values():
        if len(turns) != 2:
            raise UserError(f"mtbench: question {question.key}: expected answers to two turns, got {len(turns)}")
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
        raise UserError(
            f"mtbench: question {question.key}: no prompt {name!r} in column 'judge_prompts'. "
            f"The task's entry in params.yaml joins it."
        )
    return found


def published_turns(question: Question, column: str) -> tuple[str, ...]:
    """Return both turns of an answer in FastChat's form, from a joined column. Errors: UserError when it is missing."""
    try:
        first, second = question.row[column][0]["choices"][0]["turns"]
    except (KeyError, IndexError, ValueError):
        raise UserError(
            f"mtbench: question {question.key}: no answer of two turns in column {column!r}. "
            f"The task's entry in params.yaml joins it by question_id."
        ) from None
    return first, second


def templates(questions: list[Question], names: tuple[str, str]) -> tuple[str, ...]:
    """Return the judge prompts of these questions, with fences: the texts that the metric file's hash covers."""
    asked = [_prompt(question, names, turn) for question in questions for turn in (1, 2)]
    by_name = {
        prompt["name"]: f"{prompt['system_prompt']}\n{with_fences(prompt['prompt_template'])}" for prompt in asked
    }
    return tuple(by_name[name] for name in sorted(by_name))
