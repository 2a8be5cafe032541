"""HTML page that compares the answers of all rungs side by side. Answers are untrusted text and are always escaped."""

from dataclasses import dataclass, field
from html import escape
from typing import Literal

from ladder.report.html_page import page

Change = Literal["gained", "lost", "changed", ""]
State = Literal["passed", "loosely", "failed", ""]


@dataclass(frozen=True)
class Mark:
    """Result of one check of an answer: a state (passed, loosely, failed), or a number or word in `told`."""

    name: str
    state: State = ""
    told: str = ""


@dataclass(frozen=True)
class Answer:
    """One rung's answer to one question: its turns, from the first of its samples."""

    turns: list[str]
    marks: list[Mark]
    tokens: int | None
    finished: bool
    solved: bool = False
    """Whether the answer has the full score. Always false if the score is not a share."""
    change: Change = ""
    """Change against the parent's answer.

    gained: solved now, or a higher score. lost: no longer solved, or a lower score. changed: only other marks differ.
    """
    samples: int = 1


@dataclass(frozen=True)
class Standing:
    """One rung's row in a benchmark's table, as text."""

    rung: str
    parent: str
    score: str
    """Score with its interval: "26.8 [18.2, 35.9]"."""
    bar: tuple[float, float, float]
    """Score and interval bounds (score, low, high) on a scale from 0 to 100."""
    change: str = ""
    """Difference to the parent with its interval; empty without a comparison."""
    verdict: str = ""
    """`improved`, `regressed` or `no significant difference`."""


@dataclass(frozen=True)
class Question:
    """One question with each rung's answer, in the order of the standings."""

    key: str
    group: str
    turns: list[str]
    answers: list[Answer] = field(default_factory=list)


@dataclass(frozen=True)
class Part:
    """One benchmark's part of the page."""

    benchmark: str
    title: str
    share: bool
    """Whether the benchmark's score is a share. Only then can a question count as solved."""
    standings: list[Standing]
    questions: list[Question]


def answers_page(title: str, note: str, parts: list[Part]) -> str:
    """Return the complete page as HTML. All parts must have the same rungs."""
    rungs = [standing.rung for standing in parts[0].standings]
    compared = {number for part in parts for number, standing in enumerate(part.standings) if standing.verdict}
    return page(
        title=title,
        note=note,
        standings="\n".join(_standing(part.benchmark, standing) for part in parts for standing in part.standings),
        benchmarks="".join(f'<option value="{escape(part.benchmark)}">{escape(part.title)}</option>' for part in parts),
        options="".join(f'<option value="{number}">{escape(rungs[number])}</option>' for number in sorted(compared)),
        columns="".join(
            f'<label><input type="checkbox" data-column="{number}" checked>{escape(rung)}</label>'
            for number, rung in enumerate(rungs)
        ),
        questions="\n".join(_question(part, question, rungs) for part in parts for question in part.questions),
    )


def _standing(benchmark: str, standing: Standing) -> str:
    point, low, high = standing.bar
    number, interval = standing.score.split(" ", 1)
    verdict = (
        f'<span class="tag {escape(standing.verdict)}">{escape(standing.verdict)}</span>' if standing.verdict else ""
    )
    whisker = (
        '<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        '<line class="axis" x1="0" y1="5" x2="100" y2="5"/>'
        f'<line class="range" x1="{low:.2f}" y1="5" x2="{high:.2f}" y2="5"/>'
        f'<line class="point" x1="{point:.2f}" y1="0" x2="{point:.2f}" y2="10"/></svg>'
    )
    return (
        f'<tr data-benchmark="{escape(benchmark)}"><th scope="row">{escape(standing.rung)}</th>'
        f'<td class="parent">{escape(standing.parent)}</td>'
        f'<td class="number"><b>{number}</b> <small>{interval}</small></td>'
        f'<td class="whisker">{whisker}</td><td>{escape(standing.change)} {verdict}</td></tr>'
    )


def _question(part: Part, question: Question, rungs: list[str]) -> str:
    changes: dict[str, list[str]] = {"gained": [], "lost": [], "changed": []}
    for number, answer in enumerate(question.answers):
        if answer.change:
            changes["changed"].append(str(number))
        if answer.change in ("gained", "lost"):
            changes[answer.change].append(str(number))
    solved = sum(answer.solved for answer in question.answers)
    data = " ".join(f'data-{name}="{" ".join(numbers)}"' for name, numbers in changes.items())
    answers = "\n".join(
        _answer(number, rung, answer) for number, (rung, answer) in enumerate(zip(rungs, question.answers, strict=True))
    )
    prompts = "\n".join(f'<pre class="prompt" dir="auto">\n{escape(text)}</pre>' for text in question.turns)
    told = f"<span>solved by {solved} of {len(question.answers)}</span>" if part.share else ""
    return (
        f'<article data-benchmark="{escape(part.benchmark)}" {data} data-solved="{solved}" '
        f'data-answers="{len(question.answers)}">\n'
        f"<header><h2>{escape(question.key)} · {escape(question.group)}</h2>{told}</header>\n"
        f'{prompts}\n<div class="answers">\n{answers}\n</div>\n</article>'
    )


def _answer(number: int, rung: str, answer: Answer) -> str:
    marks = "".join(map(_mark, answer.marks))
    change = f'<span class="tag {answer.change}">{answer.change}</span>' if answer.change else ""
    verdict = '<span class="tag solved">solved</span>' if answer.solved else ""
    texts = "".join(
        f'<pre dir="auto" tabindex="0">\n{escape(text)}</pre>' if text.strip() else "<p>No text.</p>"
        for text in answer.turns
    )
    facts = [] if answer.tokens is None else [f"{answer.tokens:,} tokens"]
    facts += [f"first of {answer.samples} samples"] if answer.samples > 1 else []
    facts += [] if answer.finished else ['<b class="cut">cut off: no end in time</b>']
    return (
        f'<section data-column="{number}"><h3>{escape(rung)} {verdict}{change}</h3><ul>{marks}</ul>{texts}'
        f"<footer>{' · '.join(facts)}</footer></section>"
    )


def _mark(mark: Mark) -> str:
    if not mark.state:
        return f"<li>{escape(mark.name)}: {escape(mark.told)}</li>"
    return f'<li class="{mark.state}"><i>{SPOKEN[mark.state]}</i> {escape(mark.name)}</li>'


SPOKEN = {"passed": "passed", "loosely": "loosely passed", "failed": "failed"}
"""Labels for screen readers. Sighted readers see the signs that the style draws."""
