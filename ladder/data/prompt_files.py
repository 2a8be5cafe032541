"""Read prompt files that a user edits: templates with named {gaps}, and lists with one entry per line."""

from pathlib import Path

from ladder.data.prompt_templates import GAP
from ladder.pipeline.errors import UserError
from ladder.pipeline.files import read_text


def read_template(path: Path, gaps: set[str]) -> str:
    """Read a prompt template for `ladder.data.prompt_templates.fill`, stripped of surrounding blanks.

    Braces that do not enclose a gap name are plain text. Errors: UserError naming the file and the missing or unknown
    gap.
    """
    text = _text(path)
    found = set(GAP.findall(text))
    wanted = ", ".join(f"{{{gap}}}" for gap in sorted(gaps)) or "none"
    if missing := sorted(gaps - found):
        raise UserError(f"{path}: no {{{missing[0]}}} in it; the fields of this prompt are {wanted}")
    if unknown := sorted(found - gaps):
        raise UserError(f"{path}: no such field {{{unknown[0]}}}; the fields of this prompt are {wanted}")
    return text


def read_lines(path: Path) -> list[str]:
    """Read the non-blank lines of a list. Errors: UserError naming the file, and the line of a duplicate entry."""
    lines: dict[str, int] = {}
    for number, line in enumerate(_text(path).splitlines(), start=1):
        entry = line.strip()
        if entry in lines:
            raise UserError(f"{path}:{number}: {entry!r} stands in line {lines[entry]} already")
        if entry:
            lines[entry] = number
    return list(lines)


def _text(path: Path) -> str:
    text = read_text(path, fix="expected a prompt there").strip()
    if not text:
        raise UserError(f"{path}: empty; expected a prompt")
    return text
