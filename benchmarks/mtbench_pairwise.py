"""MT-Bench, pairwise: a judge compares a model's answers with a baseline's (Zheng et al. 2023, sec. 3.1).

Each turn is judged twice, with the answers in both orders. A win is a win in both orders. It is a tie when the two
verdicts disagree or both are a tie; a tie counts half in the win rate (FastChat's "win_rate_adjusted"). A turn with a
missing verdict is left out. Prompts, fences and limits of comparability: see benchmarks/mtbench.py.

Rows: those of mtbench, also joined with `baseline` by question_id: a model's answers in FastChat's form
(mt_bench/model_answer/*.jsonl), or our own rows of responses (key, turn, response).
"""

from collections import Counter
from typing import Any

from ladder.data.jsonl import Row
from ladder.eval import mt_bench
from ladder.eval.benchmark import Answers, Question, Tools
from ladder.eval.measure import Measure
from ladder.eval.mt_bench import questions as questions
from ladder.judges.comparison import Comparison, Side, compare
from ladder.pipeline.stage import UserError

PAIR = ("pair-v2", "pair-math-v1")
"""FastChat's prompts for two answers: without and with a reference answer."""
OUTCOMES: dict[Side | None, str | None] = {"one": "win", "two": "loss", "tie": "tie", None: None}
"""Outcome by the preferred side; the model's answer is one, the baseline's two."""


def _outcomes(row: Row, turn: int | None) -> Counter[str]:
    return Counter(
        outcome
        for sample in row["outcomes"]
        for number, outcome in enumerate(sample, start=1)
        if outcome is not None and turn in (None, number)
    )


def _share(title: str, better: Any, worth: dict[str, float], *, turn: int | None = None) -> Measure:
    return Measure(
        title,
        "%",
        better,
        lambda row: sum(worth.get(outcome, 0.0) * count for outcome, count in _outcomes(row, turn).items()),
        lambda row: float(_outcomes(row, turn).total()),
        True,
    )


HALF_A_TIE = {"win": 1.0, "tie": 0.5}
MEASURES = {
    "win_rate": _share("win rate against the baseline, a tie counting half", "higher", HALF_A_TIE),
    "first_turn": _share("win rate of the first turn", "higher", HALF_A_TIE, turn=1),
    "second_turn": _share("win rate of the second turn", "higher", HALF_A_TIE, turn=2),
    "wins": _share("turns won", "higher", {"win": 1.0}),
    "losses": _share("turns lost", "lower", {"loss": 1.0}),
    "flips": Measure(
        "verdicts that changed with the order of the answers", "%", "lower",
        lambda row: row["flips"], lambda row: float(_outcomes(row, None).total()), True,
    ),
    "unparseable": mt_bench.UNPARSEABLE,
}  # fmt: skip
HEADLINE = ("win_rate",)


def templates(questions: list[Question]) -> tuple[str, ...]:
    """Return the texts that the metric file's hash covers."""
    return mt_bench.templates(questions, PAIR)


def score(questions: list[Question], answers: list[Answers], tools: Tools) -> list[Row]:
    """Score answers: {"key", "group", "outcomes": [samples][turns] of win, tie, loss or None, "flips", "judged",
    "unparseable", "verdicts"}."""
    if tools.judge is None:
        raise UserError("mtbench_pairwise: no judge; expected one. Set benchmark.mtbench_pairwise.judge.")
    by_key = {question.key: question for question in questions}
    pairs = []
    for answer in answers:
        question = by_key[answer.key]
        baseline = _baseline(question)
        for sample in answer.samples:
            for turn in (1, 2):
                orders = ({"answer_a": sample, "answer_b": baseline}, {"answer_a": baseline, "answer_b": sample})
                straight, swapped = (mt_bench.request(question, turn, PAIR, said) for said in orders)
                pairs.append((straight, swapped))
    compared = iter(compare(tools.judge, pairs, progress="mtbench_pairwise"))
    return [_row(by_key[answer.key], [[next(compared) for _ in (1, 2)] for _ in answer.samples]) for answer in answers]


def _row(question: Question, compared: list[list[Comparison]]) -> Row:
    """Build a question's row of scores from its comparisons [samples][turns]."""
    pairs = [one for sample in compared for one in sample]
    outcomes = [[OUTCOMES[one.preferred] for one in sample] for sample in compared]
    return {
        "key": question.key,
        "group": question.group,
        "outcomes": outcomes,
        "flips": sum(one.flipped for one in pairs),
        "judged": 2 * len(pairs),
        "unparseable": sum((one.straight, one.swapped).count(None) for one in pairs),
        "verdicts": [
            [f"turn {turn}", outcome or "unparseable"]
            for sample in outcomes
            for turn, outcome in enumerate(sample, start=1)
        ],
    }


def _baseline(question: Question) -> tuple[str, ...]:
    """Return the baseline's two turns: from FastChat's one row with choices, or from the first sample of our rows."""
    rows = question.row.get("baseline", [])
    if all("response" in row and "turn" in row for row in rows) and rows:
        first = sorted((row for row in rows if row.get("sample", 0) == 0), key=lambda row: row["turn"])
        return tuple(row["response"] for row in first)
    return mt_bench.published_turns(question, "baseline")
