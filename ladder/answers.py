"""The answers of all rungs side by side, as HTML. An answer is a model's text: nothing of it is trusted."""

from dataclasses import dataclass, field
from html import escape
from typing import Literal

from ladder.page import page

Change = Literal["gained", "lost", "changed", ""]


@dataclass(frozen=True)
class Answer:
    """One rung's answer to one prompt."""

    text: str
    instructions: list[tuple[str, bool, bool]]
    """(name, strict, loose) of each instruction."""
    tokens: int
    finished: bool
    change: Change = ""
    """Against the parent's answer: the prompt is solved now (gained) or no longer (lost), or other checks changed."""

    @property
    def solved(self) -> bool:
        """Whether every instruction is followed strictly."""
        return all(strict for _, strict, _ in self.instructions)


@dataclass(frozen=True)
class Standing:
    """One rung's line in the page's table. Scores are percentages."""

    rung: str
    parent: str
    score: float
    interval: tuple[float, float]
    change: str = ""
    """The difference to its parent and its interval, as text; empty where it is compared with nothing."""
    verdict: str = ""
    """`better`, `worse` or `not distinguishable`."""


@dataclass(frozen=True)
class Question:
    """One prompt and each rung's answer to it, in the order of the standings."""

    key: str
    prompt: str
    answers: list[Answer] = field(default_factory=list)


def answers_page(title: str, note: str, standings: list[Standing], questions: list[Question]) -> str:
    """The whole page as HTML."""
    return page(
        title=title,
        note=note,
        standings="\n".join(map(_standing, standings)),
        options="".join(
            f'<option value="{number}">{escape(standing.rung)}</option>'
            for number, standing in enumerate(standings)
            if standing.verdict
        ),
        columns="".join(
            f'<label><input type="checkbox" data-column="{number}" checked>{escape(standing.rung)}</label>'
            for number, standing in enumerate(standings)
        ),
        questions="\n".join(_question(question, standings) for question in questions),
    )


def _standing(standing: Standing) -> str:
    low, high = standing.interval
    verdict = (
        f'<span class="tag {escape(standing.verdict)}">{escape(standing.verdict)}</span>' if standing.verdict else ""
    )
    whisker = (
        '<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        '<line class="axis" x1="0" y1="5" x2="100" y2="5"/>'
        f'<line class="range" x1="{low:.2f}" y1="5" x2="{high:.2f}" y2="5"/>'
        f'<line class="point" x1="{standing.score:.2f}" y1="0" x2="{standing.score:.2f}" y2="10"/></svg>'
    )
    return (
        f'<tr><th scope="row">{escape(standing.rung)}</th><td class="parent">{escape(standing.parent)}</td>'
        f'<td class="number"><b>{standing.score:.1f}</b> <small>[{low:.1f}, {high:.1f}]</small></td>'
        f'<td class="whisker">{whisker}</td><td>{escape(standing.change)} {verdict}</td></tr>'
    )


def _question(question: Question, standings: list[Standing]) -> str:
    changes: dict[str, list[str]] = {"gained": [], "lost": [], "changed": []}
    for number, answer in enumerate(question.answers):
        if answer.change:
            changes["changed"].append(str(number))
        if answer.change in ("gained", "lost"):
            changes[answer.change].append(str(number))
    solved = sum(answer.solved for answer in question.answers)
    data = " ".join(f'data-{name}="{" ".join(numbers)}"' for name, numbers in changes.items())
    answers = "\n".join(
        _answer(number, standing.rung, answer)
        for number, (standing, answer) in enumerate(zip(standings, question.answers, strict=True))
    )
    return (
        f'<article {data} data-solved="{solved}" data-answers="{len(question.answers)}">\n'
        f"<header><h2>{escape(question.key)}</h2><span>solved by {solved} of {len(question.answers)}</span></header>\n"
        f'<pre class="prompt" dir="auto">\n{escape(question.prompt)}</pre>\n<div class="answers">\n{answers}\n</div>\n'
        "</article>"
    )


def _answer(number: int, rung: str, answer: Answer) -> str:
    checks = "".join(
        f'<li class="{_state(strict, loose)}"><i>{MARK[_state(strict, loose)]}</i> {escape(name)}</li>'
        for name, strict, loose in answer.instructions
    )
    change = f'<span class="tag {answer.change}">{answer.change}</span>' if answer.change else ""
    verdict = '<span class="tag solved">solved</span>' if answer.solved else ""
    text = f'<pre dir="auto" tabindex="0">\n{escape(answer.text)}</pre>' if answer.text.strip() else "<p>No text.</p>"
    end = "" if answer.finished else ' · <b class="cut">cut off: no end in time</b>'
    return (
        f'<section data-column="{number}"><h3>{escape(rung)} {verdict}{change}</h3><ul>{checks}</ul>{text}'
        f"<footer>{answer.tokens:,} tokens{end}</footer></section>"
    )


def _state(strict: bool, loose: bool) -> str:
    return "passed" if strict else "loosely" if loose else "failed"


MARK = {"passed": "followed", "loosely": "loosely followed", "failed": "not followed"}
