"""Words that CONTRIBUTING.md excludes do not occur in tracked text, except in quoted material."""

import functools
import re
import subprocess
from collections.abc import Iterator

import pytest

from conftest import ROOT

TEXTS = (".md", ".py", ".toml", ".txt", ".yaml", ".yml", "Makefile")
EXCLUDED = ("data/", "docs/licenses.md", "locks/", "metrics/", "plots/", "prompts/", "report/", "tests/cases/")
"""Published or generated text, and prompts to models."""
QUOTED = {
    "CONTRIBUTING.md": "the list itself",
    "tests/test_language.py": "examples of the words",
    "benchmarks/graded.py": "prompt to a judge",
    "benchmarks/xstest.py": "prompt to a judge",
    "ladder/data/column_names.py": "columns of published data sets",
    "ladder/eval/safety.py": "prompt to a judge",
    "ladder/inference/completions.py": "finish reasons of servers",
    "ladder/verifiers/refusal.py": "words of refusals",
    "ladder/verifiers/sentences.py": "common English words",
    "stages/judge_reliability.py": "prompts to a judge",
    "tests/ladder/filters/test_decontamination.py": "question of a benchmark",
    "tests/ladder/inference/test_vllm_engine.py": "prompts whose answers differ in length",
    "tests/ladder/test_vllm.py": "prompts whose answers differ in length",
    "tests/ladder/verifiers/test_constraints.py": "answers of models",
    "tests/ladder/verifiers/test_refusal.py": "answers of models",
}
NOUN = r"what is(?<![A-Za-z_]what is)(?![A-Za-z]|[^\n]*\?)"


def listed() -> list[str]:
    """Return the regular expressions of the table below the heading Language."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| (`.*?) \| ", page.split("\n## Language\n")[1].split("\n## ")[0], re.MULTILINE)
    return [expression.replace(r"\|", "|") for row in table for expression in re.findall("`([^`]+)`", row)]


LISTED = listed()
IN_CONTEXT = [expression for expression in LISTED if re.search(r" |_|\(\?[<!=]", expression)]
WORD = re.compile("|".join(expression for expression in LISTED if expression not in IN_CONTEXT))
PHRASE = re.compile(rf"(?<![a-z])(?:{'|'.join(IN_CONTEXT)})(?![a-z])".replace(" ", r"[\s_]"))


@functools.cache
def excluded(word: str) -> bool:
    return WORD.fullmatch(word.lower()) is not None


def found(text: str) -> Iterator[re.Match[str]]:
    """Find the words in any case, in names also between underscores: `_is_told`."""
    words = [word for word in set(re.findall("[A-Za-z]+", text)) if excluded(word)]
    if words:
        yield from re.finditer(rf"(?<![A-Za-z])(?:{'|'.join(words)})(?![A-Za-z])", text)
    yield from PHRASE.finditer(text.lower())
    yield from re.finditer(NOUN, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Refusals are told in one sentence.", ["told"]),
        ("def test_a_fault_is_told(): retold", ["told"]),
        ("It stands in such a file; no such file, words such as these, NO_SUCH_KEY", ["stands", "such"]),
        ("Two files, of which\none; of_which; of\nwhich", ["of which", "of_which", "of\nwhich"]),
        ("Nobody reads it anew.", ["Nobody", "anew"]),
        ("length: {least: 3, most: 9}  # at least 3, the most common", ["least", "most"]),
        ('{"most": 9}, f"{most:g}", max_failed, most_failed, almost', ["most", "most_failed"]),
        ("normalised, Tokenisation, supervised, otherwise, raises", ["normalised", "Tokenisation"]),
        ("behaviours and behaviors, labelled, licence, license", ["behaviours", "labelled", "licence"]),
        ("What is rain? In a word, what is rain?", []),
        ("It reports what is missing.", ["what is"]),
    ],
)
def test_the_list_finds_its_words_and_no_others(text: str, words: list[str]) -> None:
    assert sorted(match[0] for match in found(text)) == sorted(words)


def test_tracked_text_has_no_excluded_word() -> None:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    places = []
    for name in files:
        if name.endswith(TEXTS) and not name.startswith(EXCLUDED) and name not in QUOTED:
            text = (ROOT / name).read_text(encoding="utf-8")
            places += [f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}" for match in found(text)]
    assert not places, "\n".join(["words that CONTRIBUTING.md excludes:", *places])


def test_quoted_material_still_has_the_words() -> None:
    assert [name for name in QUOTED if not any(found((ROOT / name).read_text(encoding="utf-8")))] == []
