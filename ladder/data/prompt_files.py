"""Read prompt files that a user edits: templates with named {gaps}, and lists with one entry per line."""

from pathlib import Path

from ladder.data.prompt_templates import GAP
from ladder.pipeline.stage import UserError


def read_template(path: Path, gaps: set[str]) -> str:
    """Read a prompt template for `ladder.data.prompt_templates.fill`, stripped of surrounding blanks.

    Braces that do not enclose a gap name are plain text. Errors: UserError naming the file and the missing or unknown
    gap.
    """
    text = _text(path)
    found = set(GAP.findall(text))
    wanted = ", ".join(f"{{{gap}}}" for gap in sorted(gaps)) or "none"
    if missing := sorted(gaps - found):
        raise UserError(f"{path}: missing {{{missing[0]}}}; expected the fields {wanted}")
    if unknown := sorted(found - gaps):
        raise UserError(f"{path}: no such field {{{unknown[0]}}}; expected the fields {wanted}")
    return text


def read_lines(path: Path) -> list[str]:
    """Read the non-blank lines of a list. Errors: UserError naming the file, and the line of a duplicate entry."""
    lines: dict[str, int] = {}
    for number, line in enumerate(_text(path).splitlines(), start=1):
        entry = line.strip()
        if entry in lines:
            raise UserError(f"{path}:{number}: {entry!r} is already in line {lines[entry]}. Remove one.")
        if entry:
            lines[entry] = number
    return list(lines)


def _text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected a prompt") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; expected a prompt") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; expected UTF-8 text") from None
    if not text:
        raise UserError(f"{path}: empty; expected a prompt")
    return text
