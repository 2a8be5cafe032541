"""Tables, and text that nobody vouches for, in a page of Markdown."""

import re
from collections.abc import Iterable
from typing import Any


def table(head: list[str], rows: Iterable[Iterable[Any]]) -> str:
    """A Markdown table; columns of numbers and shares stand to the right."""
    body = [list(row) for row in rows]
    marks = ["--:" if all(map(_is_number, column)) else "---" for column in zip(*body, strict=True)]
    lines = [head, marks or ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(_cell(value) for value in line)} |" for line in lines)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or bool(re.fullmatch(r"[\d,]*( ?\(?[\d.]+%\)?)?", str(value)))


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value).replace("\n", " ").replace("|", "\\|")


def fenced(text: str) -> str:
    """A block of text as it is, in a fence that is longer than any inside it."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
    return f"{fence}text\n{text}\n{fence}"


def visible(text: str) -> str:
    """One line: blanks made single spaces, and what cannot be seen or turns the line round written as `\\u202e`."""
    line = " ".join(text.split())
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode("ascii") for mark in line)


def literal(text: str) -> str:
    """Text inside a line of Markdown, read as it is: no emphasis, no code, no HTML. In a table's cell too."""
    return re.sub(r"[\\`*\[\]<>&~]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", visible(text))
