"""Every benchmark scores scripted answers the same with and without reasoning before them."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import user
from ladder.chat.encode import Messages
from ladder.data.jsonl import Row, read_rows
from ladder.eval.benchmark import Answers, Question, Tools
from ladder.eval.registry import benchmark, names
from ladder.eval.responses import read_answers
from ladder.eval.scores import Resampling, made_by, score_answers, summary
from ladder.judges.parsers import Scale
from ladder.pipeline.stage import Config, UserError

CASES = Path(__file__).parents[1] / "cases"
TEMPLATE = '<|im_start|>system\nCompare.<|im_end|>\n<|im_start|>user\n{instruction} "{output_1}" "{output_2}"<|im_end|>'
GAPS = {
    "single-v1": "{question} {answer}",
    "single-v1-multi-turn": "{question_1} {answer_1} {question_2} {answer_2}",
    "pair-v2": "{question} {answer_a} {answer_b}",
    "pair-v2-multi-turn": "{question_1} {question_2} {answer_a_1} {answer_a_2} {answer_b_1} {answer_b_2}",
}
PROMPTS = [{"name": name, "system_prompt": "Judge.", "prompt_template": gaps} for name, gaps in GAPS.items()]
MTBENCH = [
    {"question_id": 80 + n, "category": "writing", "turns": ["Write.", "More."], "judge_prompts": PROMPTS,
     "baseline": [{"choices": [{"turns": ["base one", "base two"]}]}]}
    for n in range(3)
]  # fmt: skip
BEHAVIOR = {"category": "violence", "forbidden_prompt": "How?"}
ADD = 'def add(x: int, y: int):\n    """Add."""\n'
PROGRAM = "```python\ndef add(x, y):\n    return x + y\n```"
REFUSAL, COMPLIANCE = "I cannot help with that.", "Sure, here is how: first, then second."

ROWS: dict[str, list[Row]] = {
    "alpaca_eval": [{"instruction": f"Do {n}", "output": "so", "dataset": "koala", "judge_prompt": [{"text": TEMPLATE}]}
                    for n in range(3)],
    "arithmetic": [{"id": f"sum-{n}", "prompt": user(f"{n} + 1?"), "checks": [{"kind": "answer", "value": f"{n + 1}"}]}
                   for n in range(3)],
    "donotanswer": [{"prompt": f"How {n}?", "part": "risk"} for n in range(3)],
    "graded": [{"prompt": f"How {n}?"} for n in range(3)],
    "gsm8k": [{"question": f"{n} + 1?", "answer": f"So.\n#### {n + 1}"} for n in range(3)],
    "harmbench": [{"Behavior": f"How {n}?", "FunctionalCategory": "standard", "SemanticCategory": "illegal",
                   "BehaviorID": f"b{n}"} for n in range(3)],
    "humaneval": [{"task_id": f"H/{n}", "prompt": ADD, "entry_point": "add",
                   "test": "def check(f):\n    assert f(1, 2) == 3\n"} for n in range(3)],
    "ifbench": [{"key": n, "prompt": "Count.", "instruction_id_list": ["count:numbers"], "kwargs": [{"N": 2.0}]}
                for n in range(3)],
    "ifeval": [{"key": n, "prompt": "Say.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
               for n in range(3)],
    "jailbreaks": [*({"text": f"Ignore {n}"} for n in range(3)), BEHAVIOR],
    "mbpp": [{"task_id": n, "prompt": "Add.", "test_imports": [], "test_list": ["assert add(1, 2) == 3"]}
             for n in range(3)],
    "mtbench": MTBENCH,
    "mtbench_pairwise": MTBENCH,
    "strongreject": [{**BEHAVIOR, "forbidden_prompt": f"How {n}?"} for n in range(3)],
    "word_order": [{"id": f"swap-{n}", "prompt": user(f"Swap {n} and a."),
                    "checks": [{"kind": "matches", "pattern": f"#### a, {n}\\Z"}]} for n in range(3)],
    "xstest": [{"id": str(n), "prompt": "How?", "type": "t", "label": "safe" if n else "unsafe"} for n in range(3)],
}  # fmt: skip
SAID: dict[str, list[str]] = {
    "arithmetic": ["It is\n#### 1", "It is 2.", "#### 9"],
    "word_order": ["#### a, 0", "#### a, 1", "a, 2"],
    "gsm8k": ["It is\n#### 1", "It is 2.", "#### 9"],
    "humaneval": [PROGRAM, "    return x + y", "```python\ndef add(x, y):\n    return x\n```"],
    "mbpp": [PROGRAM, "def add(x, y):\n    return x + y", "```python\ndef add(x, y):\n    return x\n```"],
    "ifbench": ["7 of 9", "7 of nine", "7"],
    "ifeval": ["No mark", "a, b", "Still none"],
}
DRAFT = "#### 5, or 17 and 18?\n```python\ndef add(x, y):\n    return 0\n```\nI cannot help. Sure, here is how."
WRAPPED: dict[str, Callable[[str], str]] = {
    "tags": lambda text: f"<think>\n{DRAFT}\n</think>\n\n{text}",
    "opened by the prompt": lambda text: f"{DRAFT}\n</think>\n\n{text}",
    "harmony": lambda text: (
        f"<|channel|>analysis<|message|>{DRAFT}<|end|><|start|>assistant<|channel|>final<|message|>{text}"
    ),
}


class Scripted:
    """Judge stub: a hash of the whole request draws the verdict."""

    name = "scripted"

    def _draws(self, requests: list[Messages]) -> list[int]:
        return [int(hashlib.sha256(json.dumps(one).encode()).hexdigest(), 16) for one in requests]

    def rate(self, requests: list[Messages], scale: Scale | None = None, *, progress: str) -> list[float]:
        return [draw % 1000 / 1000 for draw in self._draws(requests)]

    def choose(self, requests: list[Messages], scale: Scale | None = None, *, progress: str) -> list[str]:
        labels = scale.labels if scale else ("A", "B", "C")
        return [labels[draw % len(labels)] for draw in self._draws(requests)]

    def ask(self, requests: list[Messages], parse: Callable[[str], Any], *, progress: str) -> list[Any]:
        return [parse(f"1.b {draw % 2}\n2.b {draw % 5 + 1}\n3.b {draw % 4 + 1}") for draw in self._draws(requests)]

    def objects(self, requests: list[Messages], schema: type[Config], *, progress: str) -> list[Config]:
        return [
            schema(rationale="so", helpfulness=draw % 10 + 1, factuality=draw % 9 + 1, safety=draw % 8 + 1)
            for draw in self._draws(requests)
        ]


def answered(name: str, questions: list[Question], form: Callable[[str], str]) -> list[Answers]:
    said = SAID.get(name, [REFUSAL, COMPLIANCE, "It depends."])
    return [
        Answers(question.key, (tuple(form(said[number % len(said)]) for _ in question.turns),))
        for number, question in enumerate(questions)
    ]


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    """NLTK data without sentence statistics: sufficient, because no instruction counts sentences."""
    (tmp_path / "tokenizers/punkt_tab/english").mkdir(parents=True)
    return Tools(tmp_path, Scripted())  # type: ignore[arg-type]


@pytest.mark.parametrize("name", names())
def test_reasoning_changes_no_score(name: str, tools: Tools) -> None:
    found, params = benchmark(name), Resampling(resamples=1000)
    try:
        found.needs()
    except UserError as lacking:
        pytest.skip(str(lacking))
    questions = found.questions(ROWS[name])
    plain = answered(name, questions, str)
    wanted = score_answers(found, questions, plain, tools)
    numbers = summary(found, wanted, params)
    for form in WRAPPED.values():
        wrapped = answered(name, questions, form)
        scored = score_answers(found, questions, wrapped, tools)
        assert [row["measures"] for row in scored] == [row["measures"] for row in wanted]
        assert [row["responses"] for row in scored] == [[list(turns) for turns in one.samples] for one in wrapped]
        assert summary(found, scored, params) == numbers
        assert "unfinished_reasoning" not in made_by(found, questions, wrapped, params, None)
    cut = [*answered(name, questions[:1], lambda text: f"<think>\n{text}"), *plain[1:]]
    empty = [*answered(name, questions[:1], lambda text: ""), *plain[1:]]
    scored = score_answers(found, questions, cut, tools)
    assert [row["measures"] for row in scored] == [
        row["measures"] for row in score_answers(found, questions, empty, tools)
    ]
    assert [row.get("unfinished_reasoning") for row in scored] == [1] + [None] * (len(questions) - 1)
    assert made_by(found, questions, cut, params, None)["unfinished_reasoning"] == 1


@pytest.mark.parametrize("name", ["gsm8k", "ifeval"])
def test_published_answers_score_the_same_with_reasoning(
    name: str, ifeval_files: tuple[Path, Path], tools: Tools
) -> None:
    """Correct answers to the first rows of both benchmarks, before and after wrong reasoning."""
    plain, think = (read_rows(CASES / f"{name}-{form}.jsonl") for form in ("plain", "think"))
    if name == "gsm8k":
        rows = [{"question": "?", "answer": row["response"]} for row in plain]
    else:
        rows, tools = read_rows(ifeval_files[0]), Tools(ifeval_files[1])
    found = benchmark(name)
    questions = found.questions(rows)
    scores = []
    for answers in (plain, think):
        read, _ = read_answers(questions, answers, name)
        scored = score_answers(found, questions, read, tools)
        scores.append({key: value for key, value in summary(found, scored, Resampling(resamples=1000)).items()})
    assert scores[0] == scores[1]
    assert scores[0][found.title] == 100.0
