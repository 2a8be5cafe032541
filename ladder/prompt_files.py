"""Prompts as files that a user edits: texts with named {gaps}, and lists of one entry a line."""

from pathlib import Path

from ladder.run import Refused
from ladder.templates import GAP


def read_template(path: Path, gaps: set[str]) -> str:
    """A prompt for `ladder.templates.fill`; blanks at its ends go. Other braces than {name} are text.

    Errors: Refused naming the file and the gap that is missing or unknown.
    """
    text = _text(path)
    found = set(GAP.findall(text))
    wanted = ", ".join(f"{{{gap}}}" for gap in sorted(gaps)) or "none"
    if missing := sorted(gaps - found):
        raise Refused(f"{path}: no {{{missing[0]}}} in it; the fields of this prompt are {wanted}")
    if unknown := sorted(found - gaps):
        raise Refused(f"{path}: no such field {{{unknown[0]}}}; the fields of this prompt are {wanted}")
    return text


def read_lines(path: Path) -> list[str]:
    """The lines of a list, blank ones left out. Errors: Refused naming the file, and a line that stands twice."""
    lines: dict[str, int] = {}
    for number, line in enumerate(_text(path).splitlines(), start=1):
        entry = line.strip()
        if entry in lines:
            raise Refused(f"{path}:{number}: {entry!r} stands in line {lines[entry]} already")
        if entry:
            lines[entry] = number
    return list(lines)


def _text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise Refused(f"{path}: no such file; expected a prompt there") from None
    except OSError as error:
        raise Refused(f"{path}: cannot be read: {error.strerror}; expected a prompt") from None
    except UnicodeDecodeError as error:
        raise Refused(f"{path}: not UTF-8 at byte {error.start}") from None
    if not text:
        raise Refused(f"{path}: empty; expected a prompt")
    return text
