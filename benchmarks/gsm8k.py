"""GSM8K (Cobbe et al. 2021, arXiv 2110.14168; MIT): 1319 grade-school word problems whose answer is one number.

The final number of an answer is extracted in lm-eval's two ways, under its names: `strict-match` takes the first number
after "#### ", the form that the problems' own solutions end in; `flexible-extract` takes the answer's last number.
Numbers are compared as in lm-eval, as strings without commas, dollars and a last full stop: "18.00" is not "18". pass@k
uses strict-match. The request asks for that form and shows no worked examples. Scores are therefore those of a chat
model asked zero-shot, not of a base model after five examples.
"""

import re
from collections.abc import Sequence

from ladder.data.jsonl import Row
from ladder.eval.benchmark import Answers, Question, Tools
from ladder.eval.code_execution import pass_measures
from ladder.eval.measure import Measure
from ladder.pipeline.stage import UserError


def _share(column: str, title: str) -> Measure:
    return Measure(title, "%", "higher", lambda row: sum(row[column]) / len(row[column]), lambda row: 1.0, True)


MEASURES = {
    "strict-match": _share("strict", 'answers whose number after "####" is right'),
    "flexible-extract": _share("flexible", "answers whose last number is right"),
    **pass_measures("strict", (10, 100)),
}
HEADLINE = ("strict-match",)
REQUEST = (
    "{question}\n\nReason step by step. Then give the answer on a last line of its own: #### and the number alone, "
    "such as\n#### 42"
)
STRICT = re.compile(r"#### (-?[0-9.,]+)")
FLEXIBLE = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")


def questions(rows: Sequence[Row]) -> list[Question]:
    """Build the questions from rows of question and answer (a worked solution that ends in "#### " and the number), or
    from OLMES's requests, which hold them under `doc`. The key is the row's position, as lm-eval's doc_id; the group is
    the number of the solution's steps."""
    return [
        Question(str(number), (REQUEST.format(question=row["question"]),), _steps(row["answer"], number), row)
        for number, row in enumerate(row.get("doc", row) for row in rows)
    ]


def _steps(solution: str, number: int) -> str:
    *steps, last = solution.splitlines() or [""]
    if STRICT.fullmatch(last.strip()) is None:
        raise UserError(f'gsm8k: row {number + 1}: expected an answer whose last line is "#### " and a number')
    return f"{len(steps)} steps"


def strict(text: str) -> str | None:
    """Extract the first number after "#### ", or None."""
    found = STRICT.search(text)
    return _plain(found[1]) if found else None


def flexible(text: str) -> str | None:
    """Extract the last number, or None."""
    found = FLEXIBLE.findall(text)
    return _plain(found[-1]) if found else None


def _plain(number: str) -> str:
    return re.sub(r"\.$", "", number.replace(",", "").replace("$", ""))


def score(questions: Sequence[Question], answers: Sequence[Answers], tools: Tools) -> list[Row]:
    """Score answers: {"key", "group", "strict": [bool per sample], "flexible": [bool per sample], "verdicts"}."""
    by_key = {question.key: question for question in questions}
    scores = []
    for answer in answers:
        question = by_key[answer.key]
        right = strict(question.row["answer"])
        texts = [turns[0] for turns in answer.samples]
        followed = [strict(text) == right for text in texts]
        found = [flexible(text) == right for text in texts]
        scores.append(
            {
                "key": question.key,
                "group": question.group,
                "strict": followed,
                "flexible": found,
                "verdicts": [
                    [f"sample {number}", both[0] or ("loosely" if both[1] else False)]
                    for number, both in enumerate(zip(followed, found, strict=True), start=1)
                ],
            }
        )
    return scores
