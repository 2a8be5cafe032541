"""Markdown tables, and safe quoting of untrusted text in Markdown."""

import re
from collections.abc import Iterable
from typing import Any


def table(head: list[str], rows: Iterable[Iterable[Any]]) -> str:
    """Format a Markdown table. Columns that hold only numbers and percentages are right-aligned."""
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
    """Quote a text verbatim in a code fence that is longer than any run of backticks inside it."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
    return f"{fence}text\n{text}\n{fence}"


def visible(text: str) -> str:
    r"""Convert a text to one visible line.

    Whitespace becomes single spaces. Invisible characters and those that reverse the text direction are escaped, for
    example `\u202e`.
    """
    line = " ".join(text.split())
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode("ascii") for mark in line)


def literal(text: str) -> str:
    """Escape text for a line or table cell of Markdown, so that it has no emphasis, code or HTML."""
    return re.sub(r"[\\`*\[\]<>&~]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", visible(text))
