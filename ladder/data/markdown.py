"""Tables as Markdown and as text, and safe quoting of untrusted text in Markdown."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

_SPECIAL = re.compile(
    r"\\(?=[!-/:-@\[-`{-~])"  # a backslash that would escape the next character
    r"|[`*<|]|~(?=~)|&(?=#|\w+;)"  # code, emphasis, HTML, cells, deleted text, entities
    r"|\[(?=[^\]]*\][(\[:])"  # a link
    r"|(?<![^\W_])_|_(?![^\W_])"  # emphasis: an underscore at the edge of a word
)


class Markdown(str):
    """Text that is Markdown already: `table` writes it as it is."""


def table(head: Sequence[str], rows: Iterable[Iterable[Any]], *, rule: Sequence[str] | None = None) -> str:
    """Format a Markdown table. Text is escaped (`cell`), so that it has no effect beyond its cell.

    rule: the cells of the line below the head; by default, columns of numbers and percentages are right-aligned.
    """
    body = [list(row) for row in rows]
    marks = [" --: " if all(map(_is_number, column)) else " --- " for column in zip(*body, strict=True)]
    lines = [f"| {' | '.join(map(cell, line))} |" for line in [head, *body]]
    return "\n".join([lines[0], f"|{'|'.join(rule or marks or [' --- '] * len(head))}|", *lines[1:]])


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Format a table for a terminal, in aligned columns. Invisible characters are escaped (`visible`)."""
    shown = [[visible(text) for text in row] for row in rows]
    widths = [max(map(len, texts)) for texts in zip(*shown, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in shown
    )


def cell(value: Any) -> Markdown:
    """Format a value for a table cell: numbers with separators, text on one line and escaped where it needs to be."""
    if isinstance(value, Markdown):
        return value
    if isinstance(value, float):
        return Markdown(f"{value:,.1f}")
    if isinstance(value, int):
        return Markdown(f"{value:,}")
    return Markdown(_SPECIAL.sub(r"\\\g<0>", visible(str(value))))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or bool(re.fullmatch(r"[\d,]*( ?\(?[\d.]+%\)?)?", str(value)))


def code(text: str) -> Markdown:
    """Quote a text as inline code, with more backticks around it than inside it. Bars are escaped for table cells."""
    line = visible(text).replace("|", "\\|")
    mark = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    space = " " if line[:1] == "`" or line[-1:] == "`" else ""
    return Markdown(f"{mark}{space}{line}{space}{mark}")


def fenced(text: str) -> str:
    """Quote a text verbatim in a code fence that is longer than any run of backticks inside it."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
    return f"{fence}text\n{text}\n{fence}"


def visible(text: str) -> str:
    r"""Convert a text to one visible line.

    Whitespace becomes single spaces. Invisible characters and those that reverse the text direction are escaped, e.g.
    `\u202e`.
    """
    line = " ".join(text.split())
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode("ascii") for mark in line)


def literal(text: str) -> Markdown:
    """Escape text for a line or table cell of Markdown, so that it has no emphasis, code or HTML."""
    return Markdown(re.sub(r"[\\`*\[\]<>&~|]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", visible(text)))
