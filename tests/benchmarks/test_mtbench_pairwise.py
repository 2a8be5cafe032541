import re
from collections.abc import Callable
from pathlib import Path

import pytest
from test_mtbench import mean, questions, shown

from benchmarks import mtbench_pairwise as pairwise
from ladder.chat.encode import Messages
from ladder.data.jsonl import Row
from ladder.eval.benchmark import Answers, Question, Tools
from ladder.pipeline.stage import UserError


@pytest.fixture
def published() -> list[Question]:
    return questions()


class Rule:
    """Judge stub: a rule on the last answers of A and B decides."""

    name = "rule"

    def __init__(self, rule: Callable[[str, str], str | None]) -> None:
        self.rule = rule

    def choose(self, requests: list[Messages], *, progress: str) -> list[str | None]:
        return [self.rule(*sides(request[-1]["content"])) for request in requests]


def sides(text: str) -> tuple[str, str]:
    """Return the last answer of each assistant, from between the fences."""
    said = re.findall(r"^<<<answer \w+>>>\n(.*?)\n<<<end of answer", text, re.MULTILINE | re.DOTALL)
    return said[len(said) // 2 - 1], said[-1]


def with_baseline(questions: list[Question], baseline: Callable[[Question], list[Row]]) -> list[Question]:
    return [
        Question(question.key, question.turns, question.group, {**question.row, "baseline": baseline(question)})
        for question in questions
    ]


def fastchat(question: Question) -> list[Row]:
    return [{"choices": [{"index": 0, "turns": [f"base one {question.key}", f"base two {question.key}"]}]}]


def test_the_win_rate_of_fastchats_own_script(published: list[Question], tmp_path: Path):
    def verdict(a: str, b: str) -> str | None:
        """Outcome by question number: wins and losses in both orders, ties, position bias, an invalid reply."""
        number, model_first = int(a.split()[-1]), a.startswith("model")
        steady = {0: "AB", 1: "BA", 2: "CC", 3: "AA", 4: "AB", 5: "CB", 6: "BA"}[number % 7]
        return None if number % 11 == 0 and model_first else steady[not model_first]

    answers = [Answers(q.key, ((f"model one {q.key}", f"model two {q.key}"),)) for q in published]
    scores = pairwise.score(with_baseline(published, fastchat), answers, Tools(judge=Rule(verdict)))
    named = {"A": ("m", "base"), "B": ("base", "m")}
    judgments = []
    for question in published:
        for turn in (1, 2):
            first = verdict(f"model {question.key}", f"base {question.key}")
            second = verdict(f"base {question.key}", f"model {question.key}")
            winners = [
                "error" if said is None else named[said][place] if said in named else "tie"
                for place, said in enumerate((first, second))
            ]
            models = {"m": "model_1", "base": "model_2"}
            one, two = (models.get(winner, winner) for winner in winners)
            judgments.append({"model_1": "m", "model_2": "base", "turn": turn, "g1_winner": one, "g2_winner": two})
    arguments = ["--mode", "pairwise-baseline", "--baseline-model", "base"]
    (row,) = re.findall(r"^m\s+(.*)$", shown(judgments, tmp_path / "judgments.jsonl", *arguments), re.MULTILINE)
    wins, losses, ties, win_rate, loss_rate, adjusted = map(float, row.split())
    measured = {name: mean(measure, scores) for name, measure in pairwise.MEASURES.items()}
    assert measured["win_rate"] == pytest.approx(adjusted, abs=1e-6)
    assert measured["wins"] == pytest.approx(win_rate, abs=1e-6)
    assert measured["losses"] == pytest.approx(loss_rate, abs=1e-6)
    assert sum(row["outcomes"][0].count("tie") for row in scores) == ties > 0
    dropped = sum(number % 11 == 0 for number in range(81, 161))
    assert wins + losses + ties == 2 * (80 - dropped)
    assert measured["unparseable"] == pytest.approx(dropped / 160)
    flipped = sum(number % 7 in (3, 5) and number % 11 != 0 for number in range(81, 161))
    assert measured["flips"] == pytest.approx(flipped / (80 - dropped))


def test_a_judge_that_likes_the_first_answer_finds_only_ties(published: list[Question]):
    answers = [Answers(question.key, (("a", "b"),)) for question in published[:3]]
    scores = pairwise.score(with_baseline(published, fastchat), answers, Tools(judge=Rule(lambda a, b: "A")))
    assert [row["outcomes"] for row in scores] == [[["tie", "tie"]]] * 3
    assert mean(pairwise.MEASURES["win_rate"], scores) == 0.5
    assert mean(pairwise.MEASURES["flips"], scores) == 1.0


def test_a_row(published: list[Question]):
    def longer(a: str, b: str) -> str | None:
        return None if "?" in a else "C" if len(a) == len(b) else "A" if len(a) > len(b) else "B"

    base = len(fastchat(published[0])[0]["choices"][0]["turns"][0])
    sample = ("x" * (base + 1), "x" * base)
    worse = ("x", "?")
    (row,) = pairwise.score(
        with_baseline(published, fastchat), [Answers("81", (sample, worse))], Tools(judge=Rule(longer))
    )
    assert row == {
        "key": "81",
        "group": "writing",
        "outcomes": [["win", "tie"], ["loss", None]],
        "flips": 0,
        "judged": 8,
        "unparseable": 1,
        "verdicts": [["turn 1", "win"], ["turn 2", "tie"], ["turn 1", "loss"], ["turn 2", "unparseable"]],
    }


def test_a_baseline_may_be_our_own_responses(published: list[Question]):
    def responses(question: Question) -> list[Row]:
        said = [(1, 0, "other sample"), (0, 1, "base two"), (0, 0, "base one"), (1, 1, "other sample")]
        return [{"key": question.key, "sample": s, "turn": t, "response": text} for s, t, text in said]

    seen = []

    def verdict(a: str, b: str) -> str:
        seen.append((a, b))
        return "C"

    answers = [Answers("81", (("one", "two"),))]
    pairwise.score(with_baseline(published, responses), answers, Tools(judge=Rule(verdict)))
    assert seen == [("one", "base one"), ("two", "base two"), ("base one", "one"), ("base two", "two")]


def test_without_a_baseline_it_refuses(published: list[Question]):
    answers = [Answers("81", (("one", "two"),))]
    with pytest.raises(UserError, match="question 81: no answer of two turns in column 'baseline'"):
        pairwise.score(published, answers, Tools(judge=Rule(lambda a, b: "C")))


def test_prompts_show_both_answers_beside_the_reference(published: list[Question]):
    assert len(pairwise.templates(published)) == 4
    for template in pairwise.templates(published):
        assert template.count("<<<answer ") in (2, 4)
        assert "[[C]]" in template
