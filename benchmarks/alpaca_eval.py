"""AlpacaEval 2 (Li et al. 2023; Dubois et al. 2024, arXiv 2404.04475): win rate against GPT-4's answers.

There are 805 instructions. A judge sees the model's answer and that of gpt-4-1106-preview, in the order that the
published annotator draws for the instruction, and names the better one. Equal answers are a tie and are not judged, as
published.

win_rate is the mean preference for the model. With a local judge a preference is its probability, as published
("weighted_alpaca_eval_gpt4_turbo"); with an endpoint it is 1 or 0, whose expectation is the published one.

length_controlled comes from `ladder.eval.length_controlled`. It is left out when the answers do not determine it, for
example for a model that always loses or always writes less. Without the published instruction difficulties, which no
package carries, the number is called `length_controlled_minimal`. It then differs from the published length-controlled
win rate by 6.5 points on average over 57 models, all on short answers; the metric file says so under "caveats".

Three things deliberately differ from the published benchmark:
- Answers are between fence lines (`prompt_templates.fenced`); the hash in the metric file covers the prompt with them.
- Answers are inserted after the prompt is split into messages, so that no answer can write a message of its own.
- A missing verdict is left out and counted.

Published numbers are GPT-4's preferences: those of another judge are not comparable with them.

The data are CC-BY-NC-4.0: they are loaded at run time and never stored in this repository.
Rows: alpaca_eval_gpt4_baseline.json, joined with `judge_prompt` (the text of alpaca_eval_clf.txt). When all rows
have a column `instruction_difficulty`, as the authors publish it on the Hub, the length control uses it.
"""

import random
import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ladder.chat.encode import Messages
from ladder.data.jsonl import Row
from ladder.data.prompt_templates import fenced, fill, with_fences
from ladder.eval.benchmark import Answers, Question, Tools
from ladder.eval.length_controlled import length_controlled
from ladder.eval.measure import Measure
from ladder.judges.parsers import Scale
from ladder.pipeline.stage import UserError

FIRST, SECOND = "m", "M"
"""Labels of the published prompt for the answer that is shown first, and the other."""
PREFERENCE = Scale((FIRST, SECOND), lead="", tail="", worth=(1.0, 0.0))
"""The reply is one letter; its worth is the preference for the answer shown first."""
MINIMAL = "length_controlled_minimal"
"""Name of the length-controlled win rate without instruction difficulty, as in the authors' code."""
MESSAGE = re.compile(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>", re.DOTALL)


def _judged(row: Row) -> float:
    return float(row["preference"] is not None)


MEASURES = {
    "win_rate": Measure(
        "preferred to the baseline", "%", "higher", lambda row: row["preference"] or 0.0, _judged, True
    ),
    "length_controlled": Measure(
        "preferred to the baseline at equal length", "%", "higher",
        lambda row: row["length_controlled"], lambda row: float(row["length_controlled"] is not None), False,
    ),
    MINIMAL: Measure(
        "preferred to the baseline at equal length, without instruction difficulty", "%", "higher",
        lambda row: row[MINIMAL], lambda row: float(row[MINIMAL] is not None), False,
    ),
    "length": Measure("length of an answer", "characters", "lower", lambda row: row["length"], lambda row: 1.0, False),
    "unparseable": Measure(
        "judgments without a verdict", "%", "lower",
        lambda row: row["unparseable"], lambda row: row["judged"], True,
    ),
}  # fmt: skip
HEADLINE = ("win_rate",)
CAVEATS = {
    MINIMAL: "without instruction difficulty; off the published length-controlled win rate by 6.5 points on average "
    "over 57 models, all on short answers"
}


def questions(rows: list[Row]) -> list[Question]:
    """Build the questions; the key is the position in the file, the published "index". Errors: UserError."""
    for number, row in enumerate(rows, start=1):
        for name in ("instruction", "output", "dataset"):
            if not isinstance(row.get(name), str):
                raise UserError(f"alpaca_eval: row {number}: expected a text in column {name!r}, got {row.get(name)!r}")
    return [Question(str(index), (row["instruction"],), row["dataset"], row) for index, row in enumerate(rows)]


def templates(questions: list[Question]) -> tuple[str, ...]:
    """Return the prompt with fences in place: the text that the metric file's hash covers."""
    return (with_fences(_template(questions[0])),)


def score(questions: list[Question], answers: list[Answers], tools: Tools) -> list[Row]:
    """Score answers; return one row per question. Several samples are judged separately and averaged.

    {"key", "group", "preference": 0 to 1, or None without a verdict, "length", "baseline_length",
    "length_controlled" and "length_controlled_minimal": the row's part of that rate in percent, or None, "difficulty",
    "judged", "unparseable", "verdicts"}
    """
    if tools.judge is None:
        raise UserError("alpaca_eval: no judge; expected one. Set benchmark.alpaca_eval.judge.")
    by_key = {question.key: question for question in questions}
    pairs = [(by_key[answer.key], sample[0]) for answer in answers for sample in answer.samples]
    requests = [request(question, said) for question, said in pairs if said != question.row["output"]]
    worths = iter(tools.judge.rate(requests, PREFERENCE, progress="alpaca_eval"))
    preferences = iter([_preference(question, said, worths) for question, said in pairs])
    rows = [
        _row(by_key[answer.key], [sample[0] for sample in answer.samples], [next(preferences) for _ in answer.samples])
        for answer in answers
    ]
    _control(rows)
    return rows


def request(question: Question, said: str) -> Messages:
    """Build the judge request: the published prompt with both answers fenced."""
    shown = [question.row["output"], said]
    if model_first(question.turns[0]):
        shown.reverse()
    values = {"instruction": question.turns[0], "output_1": fenced(shown[0]), "output_2": fenced(shown[1])}
    messages = [{"role": role, "content": content.strip()} for role, content in MESSAGE.findall(_template(question))]
    return [*messages[:-1], {**messages[-1], "content": fill(messages[-1]["content"], values)}]


def model_first(instruction: str) -> bool:
    """Whether the published annotator (seed 0) shows the model's answer before the baseline's."""
    return random.Random(f"is_switched_outputs{instruction}0").choices([False, True])[0]


def _template(question: Question) -> str:
    joined = question.row.get("judge_prompt", [])
    if len(joined) != 1 or not MESSAGE.search(joined[0].get("text", "")):
        raise UserError(
            f"alpaca_eval: question {question.key}: expected a prompt of <|im_start|>role … <|im_end|> in column "
            f"'judge_prompt'. The task's entry in params.yaml joins it."
        )
    return str(joined[0]["text"])


def _preference(question: Question, said: str, worths: Iterator[float | None]) -> float | None:
    """Return the preference for the model, 0 to 1: the judge's next one, or 0.5 for equal answers."""
    if said == question.row["output"]:
        return 0.5
    worth = next(worths)
    return worth if worth is None or model_first(question.turns[0]) else 1.0 - worth


def _row(question: Question, said: list[str], preferences: list[float | None]) -> Row:
    had = [preference for preference in preferences if preference is not None]
    judged = sum(text != question.row["output"] for text in said)
    preference = sum(had) / len(had) if had else None
    return {
        "key": question.key,
        "group": question.group,
        "preference": preference,
        "length": sum(map(len, said)) / len(said),
        "baseline_length": len(question.row["output"]),
        "length_controlled": None,
        MINIMAL: None,
        "difficulty": question.row.get("instruction_difficulty"),
        "judged": judged,
        "unparseable": preferences.count(None),
        "verdicts": [["preference", "unparseable" if preference is None else round(preference, 3)]],
    }


def _control(rows: list[Row]) -> None:
    """Add each row's part of the length-controlled win rate, named by whether difficulties are known.

    Errors: UserError when only some difficulties are missing.
    """
    known = [row for row in rows if row["preference"] is not None]
    with_difficulty = [row for row in known if row["difficulty"] is not None]
    if with_difficulty and len(with_difficulty) < len(known):
        raise UserError(
            f"alpaca_eval: {len(with_difficulty)} of {len(known)} rows have instruction_difficulty; expected all or 0"
        )
    if not known:
        return

    def numbers(name: str) -> NDArray[np.float64]:
        return np.array([row[name] for row in known], dtype=float)

    controlled = length_controlled(
        numbers("preference"),
        numbers("length"),
        numbers("baseline_length"),
        numbers("difficulty") if with_difficulty else None,
    )
    if controlled is not None:
        name = "length_controlled" if with_difficulty else MINIMAL
        for row, contribution in zip(known, controlled.contributions, strict=True):
            row[name] = 100 * float(contribution)
