"""Names of entries and references to them: the values of params.yaml that dvc.yaml writes into shell commands.

DVC writes `${key}` and `${item.parent}` into a command as they are, and a shell reads the command. So a name may hold
letters, digits, `-` and `_` only, and every value that reaches a command must be a name or a path of names. The rule
is applied in three places: `python -m ladder check`, every stage before it reads its section (the stage `code` runs
before all others whenever params.yaml has changed), and .dvcignore, by which DVC itself refuses an output whose path
has another character.
"""

import difflib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from ladder.pipeline.yaml_lines import Keys

LONGEST = 64
LONGEST_REFERENCE = 160
SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
REFERENCE_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""Files of stages have dots: `pairs/web.validation` is data/pairs/web.validation.jsonl."""

SINGLE = frozenset(
    {"code", "base", "punkt", "prompts", "questions", "report", "accuracy", "divergence", "guide", "judge_sheet"}
)
"""Sections without named entries."""
WITH_PATHS = frozenset({"part", "heldout"})
"""Sections whose entries are named by paths: `all/faq`, `problems/maths-heldout`."""
REFERENCES = frozenset(
    {"parent", "data", "model", "teacher", "draft", "prompts", "seeds", "reward_model", "ranker", "method", "heldout"}
)
"""Keys of an entry whose values dvc.yaml writes into commands and paths, where they are texts."""
COUNTS = {"speculate": frozenset({"prompts"})}
"""Keys of the same name that are no references: `speculate.maths.prompts` is a number of prompts."""
REFERENCE_LISTS = {
    "report": ("benchmarks", "rungs"),
    "guide": ("heldout", "accuracy", "divergence"),
    "merge": ("parents",),
}
"""Lists whose elements dvc.yaml writes into commands and paths: of a section, or of each entry of a section."""
SINGLE_REFERENCES = {"accuracy": ("data",), "divergence": ("data", "teacher"), "judge_sheet": ("data",)}
"""The same for texts of sections without entries."""


class Fault(NamedTuple):
    """A fault of params.yaml: the keys that lead to it, and the sentence about it."""

    keys: Keys
    sentence: str


def name_fault(name: object, *, path: bool = False) -> str | None:
    """What is wrong with an entry's name; None when nothing is. With `path`, `/` may join several names."""
    slash = ", joined by /" if path else ""
    expected = f"expected letters a-z, digits, - and _{slash}, not beginning with -, at most {LONGEST} characters"
    if not isinstance(name, str) or re.fullmatch("[0-9]+", name):
        return f"entry name {_shown(name)}: a number or another value, not a name; {expected}. Begin it with a letter"
    if len(name) > LONGEST:
        return f"entry name {_shown(name)}: {len(name)} characters; {expected}. Shorten it"
    if not all(SEGMENT.fullmatch(part) for part in (name.split("/") if path else [name])):
        return f"entry name {_shown(name)}: {expected}{_instead(name, path)}"
    return None


def reference_fault(value: object) -> str | None:
    """What is wrong with a value that reaches a command: a path of names such as `sft/chat`; None when nothing is."""
    expected = "expected a name such as sft/chat: letters a-z, digits, -, _ and . in parts joined by /"
    if not isinstance(value, str):
        return f"{expected}; got {_shown(value)}"
    if len(value) > LONGEST_REFERENCE:
        return f"{expected}, at most {LONGEST_REFERENCE} characters; got {len(value)}"
    if not all(REFERENCE_SEGMENT.fullmatch(part) for part in value.split("/")):
        return f"{expected}; got {_shown(value)}"
    return None


def name_faults(params: dict[str, Any]) -> Iterator[Fault]:
    """Every entry name and every reference of params.yaml that a shell could read as more than a name."""
    for section, content in params.items():
        for keys, value in command_values(section, content):
            sentence = reference_fault(value)
            if sentence:
                yield Fault(keys, sentence)
        if section not in SINGLE and isinstance(content, dict):
            for name in content:
                sentence = name_fault(name, path=section in WITH_PATHS)
                if sentence:
                    yield Fault((section, name), sentence)


def command_values(section: str, content: Any) -> Iterator[tuple[Keys, Any]]:
    """(keys, value) of every value of a section that dvc.yaml may write into a command, entry names left out."""
    if not isinstance(content, dict):
        return
    if section in SINGLE:
        named: dict[tuple[Any, ...], dict[Any, Any]] = {(): content}
        texts = SINGLE_REFERENCES.get(section, ())
    else:
        named = {(name,): entry for name, entry in content.items() if isinstance(entry, dict)}
        texts = tuple(REFERENCES - COUNTS.get(section, frozenset()))
    lists = REFERENCE_LISTS.get(section, ())
    for prefix, entry in named.items():
        for key, value in entry.items():
            if key in texts:
                yield (section, *prefix, key), value
            elif key in lists:
                if not isinstance(value, list):
                    yield (section, *prefix, key), value
                    continue
                for place, element in enumerate(value):
                    yield (section, *prefix, key, place), element


def did_you_mean(word: object, words: Any, *, cutoff: float = 0.6) -> str:
    """` (did you mean 'chat'?)` with the nearest of the valid words, or an empty text."""
    near = difflib.get_close_matches(str(word), [str(other) for other in words], n=1, cutoff=cutoff)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _instead(name: str, path: bool) -> str:
    parts = [re.sub(r"[^A-Za-z0-9_-]+", "-", part).strip("-") for part in (name.split("/") if path else [name])]
    proposed = "/".join(part for part in parts if part)[:LONGEST]
    return f". Use {proposed!r}" if re.search("[A-Za-z_]", proposed) else ". Begin it with a letter"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
