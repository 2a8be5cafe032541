"""Fenced blocks against markdown-it-py, an implementation of CommonMark that passes its test suite."""

import random

import pytest
from markdown_it import MarkdownIt

from ladder.verifiers.answer_program import code
from ladder.verifiers.code_blocks import INDENT, _found, fences

COMMONMARK = MarkdownIt("commonmark").disable("html_block")
FENCES = ["```", "````", "`````", "~~~", "~~~~~", "   ```", "    ```", "  ~~~", " ```` "]
LABELED = ["```python", "````md", "~~~text", "~~~ `a`", "``` a`b", "  ```py", "```python title=x"]
TEXT = ["x = 1", "", "    y = 2", "text", "    z", "a `b` c"]
MARKERS = {"- ": "  ", "* ": "  ", "1. ": "   ", "10) ": "    ", "> ": "> "}


def document(draw: random.Random) -> str:
    """A random document, at the top level, in a list item, or in a quotation."""
    lines = [draw.choice(draw.choice((FENCES, LABELED, TEXT, TEXT))) for _ in range(draw.randint(1, 9))]
    if draw.random() < 0.5:
        return "\n".join([*lines, ""])
    marker, rest = draw.choice(list(MARKERS.items()))
    return "\n".join([f"{marker}item", rest.rstrip(), *((rest + line).rstrip(" ") for line in lines), ""])


def commonmark(text: str) -> list[tuple[str, str]]:
    """(first word of the info string, content) of every fenced block."""
    blocks = (token for token in COMMONMARK.parse(text) if token.type == "fence")
    return [(block.info.split()[0] if block.info.strip() else "", block.content) for block in blocks]


def test_random_documents_have_the_blocks_of_commonmark() -> None:
    draw, seen = random.Random(0), 0
    for _ in range(2000):
        text = document(draw)
        found = [(block.label, block.text) for block in _found(text, INDENT)]
        expected = [("" if label == "`a`" else label, content) for label, content in commonmark(text)]
        assert found == expected, text
        seen += len(expected)
    assert seen > 1500


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("````markdown\n# A\n```python\nx = 1\n```\n````\n", [("python", "x = 1\n")]),
        ("~~~~md\n```py\nx = 1\n```\n~~~~\n", [("py", "x = 1\n")]),
        ("`````\n````md\n```python\nx = 1\n```\n````\n`````\n", [("python", "x = 1\n")]),
        ("````text\n~~~python\nx = 1\n~~~\nand\n```\ny = 2\n```\n````\n", [("python", "x = 1\n"), ("", "y = 2\n")]),
        ("````markdown\nno code\n````\n", [("markdown", "no code\n")]),
        ('````python\nx = """\n```python\n"""\n````\n', [("python", 'x = """\n```python\n"""\n')]),
        ("```python\nx = (\nWait.\n```python\nx = 1\n```\n", [("python", "x = (\nWait.\n"), ("python", "x = 1\n")]),
        ("```\nx = (\n```python\nx = 1\n```\n", [("", "x = (\n"), ("python", "x = 1\n")]),
        ("```python\nx = 1\n~~~\ny = 2\n```\n", [("python", "x = 1\n~~~\ny = 2\n")]),
        ("    ```python\n    x = 1\n    ```\n", [("python", "x = 1\n")]),
        ("```python\nx = '\u2028```\x0c'\n```\n", [("python", "x = '\u2028```\x0c'\n")]),
    ],
)
def test_blocks_within_blocks(text: str, found: list[tuple[str, str]]) -> None:
    assert [(block.label, block.text) for block in fences(text)] == found


@pytest.mark.parametrize("outer", ["````markdown", "````", "~~~md", "`````text"])
def test_a_program_inside_a_block_of_markdown_is_found(outer: str) -> None:
    program = "def add(x, y):\n    return x + y\n"
    fence = outer.rstrip("markdowntex")
    for function in ("add", ""):
        assert code(f"Sure:\n\n{outer}\n# Add\n\n```python\n{program}```\n{fence}\n", function) == program


def test_a_block_ends_after_its_closing_fence() -> None:
    text = "a\n```\nb\n```\nc\n```\nd"
    assert [(block.start, block.end, block.closed) for block in fences(text)] == [(2, 12, True), (14, 0, False)]
