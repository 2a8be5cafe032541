"""Validation of entry names and references: the values of params.yaml that dvc.yaml inserts into shell commands.

DVC inserts `${key}` and `${item.parent}` into a command without quoting, and a shell runs the command. A name may
therefore contain only letters, digits, `-` and `_`. Every value that reaches a command must be a name or a path of
names.

The rule is enforced in three places. `ladder check` reports violations. Every stage checks before it reads
its section; the stage `code` runs first whenever params.yaml has changed. In .dvcignore, a pattern makes DVC itself
refuse an output whose path has another character.
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
"""One part of a reference. File names have dots: `pairs/web.validation` is data/pairs/web.validation.jsonl."""

SINGLE = frozenset(
    {
        "code",
        "base",
        "punkt",
        "prompts",
        "merge_input",
        "questions",
        "provenance",
        "report",
        "heldout_prompts",
        "accuracy",
        "divergence",
        "claims",
        "judge_reliability",
    }  # fmt: skip
)
"""Sections without named entries."""
TRACKED_WHOLE = frozenset({"answer", "benchmark", "heldout", "lm_eval", "task"})
"""Sections with named entries that dvc.yaml does not expand one by one; their entries take no defaults."""
WITH_PATHS = frozenset({"part", "heldout"})
"""Sections whose entry names are paths: `all/faq`, `problems/maths-heldout`."""
REFERENCES = frozenset(
    {"parent", "data", "model", "teacher", "draft", "prompts", "seeds", "reward_model", "ranker", "method", "heldout"}
)
"""Keys of an entry whose values dvc.yaml inserts into commands and paths. The values must be text."""
OTHERS = {"speculate": frozenset({"prompts"}), "endpoint": frozenset({"model"})}
"""Exceptions to REFERENCES: keys that hold something else. `speculate.maths.prompts` is a number of prompts, and
`endpoint.gpt.model` is a model's name on its server."""
REFERENCE_LISTS = {
    "report": ("benchmarks", "rungs"),
    "claims": ("heldout", "accuracy", "divergence"),
    "merge": ("parents",),
}
"""Lists whose elements dvc.yaml inserts into commands and paths, of a section or of each of its entries."""
SINGLE_REFERENCES = {"accuracy": ("data",), "divergence": ("data", "teacher"), "judge_reliability": ("data",)}
"""Keys of sections without entries whose text values dvc.yaml inserts into commands and paths."""


class Fault(NamedTuple):
    """Fault of params.yaml: the path of keys to the value, and a sentence about it."""

    keys: Keys
    sentence: str


def name_fault(name: object, *, path: bool = False) -> str | None:
    """Return the problem with an entry's name; None if it is valid. With `path`, `/` may join several names."""
    slash = ", joined by /" if path else ""
    expected = f"expected letters a-z, digits, - and _{slash}, not beginning with -, at most {LONGEST} characters"
    if not isinstance(name, str) or re.fullmatch("[0-9]+", name):
        return f"entry name {_shown(name)}: not a name; {expected}. Begin it with a letter"
    if len(name) > LONGEST:
        return f"entry name {_shown(name)}: {len(name)} characters; {expected}. Shorten it"
    if re.search(r"\+[0-9]+(?:/|$)", name):
        return f"entry name {_shown(name)}: names of this form belong to replicas with other seeds; {expected}"
    if not all(SEGMENT.fullmatch(part) for part in (name.split("/") if path else [name])):
        return f"entry name {_shown(name)}: {expected}{_instead(name, path)}"
    return None


def reference_fault(value: object) -> str | None:
    """Return the problem with a reference, a path of names such as `sft/chat`; None if it is valid."""
    expected = "expected a name such as sft/chat: letters a-z, digits, -, _ and . in parts joined by /"
    if not isinstance(value, str):
        return f"{expected}; got {_shown(value)}"
    if len(value) > LONGEST_REFERENCE:
        return f"{expected}, at most {LONGEST_REFERENCE} characters; got {len(value)}"
    if not all(REFERENCE_SEGMENT.fullmatch(part) for part in value.split("/")):
        return f"{expected}; got {_shown(value)}"
    return None


def name_faults(params: dict[str, Any]) -> Iterator[Fault]:
    """Find every entry name and reference of params.yaml that is invalid and could inject shell code."""
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
    """Iterate over (keys, value) of a section's values that dvc.yaml may insert into a command, except entry names."""
    if not isinstance(content, dict):
        return
    if section in SINGLE:
        named: dict[tuple[Any, ...], dict[Any, Any]] = {(): content}
        texts = SINGLE_REFERENCES.get(section, ())
    else:
        named = {(name,): entry for name, entry in content.items() if isinstance(entry, dict)}
        texts = tuple(REFERENCES - OTHERS.get(section, frozenset()))
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
    """Return ` (did you mean 'chat'?)` with the closest valid word, or an empty string."""
    near = difflib.get_close_matches(str(word), [str(other) for other in words], n=1, cutoff=cutoff)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _instead(name: str, path: bool) -> str:
    parts = [re.sub(r"[^A-Za-z0-9_-]+", "-", part).strip("-") for part in (name.split("/") if path else [name])]
    proposed = "/".join(part for part in parts if part)[:LONGEST]
    return f". Use {proposed!r}" if re.search("[A-Za-z_]", proposed) else ". Begin it with a letter"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
