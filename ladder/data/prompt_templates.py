"""Prompt templates with named {gaps}: read from files that a user edits, filled, and safe for untrusted answers.

An answer inside a judge prompt is quoted (`fenced`), as a defense against prompt injection.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from ladder.pipeline.errors import UserError
from ladder.pipeline.files import read_text

# Chat template markers: a tokenizer parses them inside a message too, so that an answer could end the judge's prompt
# and begin its reply. Verdict brackets too: a judge that quotes the answer would repeat them.
_CONTROL = re.compile(r"<(?=\||/?s>|(?:start|end)_of_turn>|</?SYS>>)|\[(?=/?INST\])|<(?=\uff5c)|\[(?=\[)")


def fenced(text: str) -> str:
    """Wrap an answer in two delimiter lines that it cannot contain: each includes a hash of the answer.

    Chat template markers (`<|im_end|>`, `[INST]`, `</s>`) and verdict brackets (`[[10]]`) get a space after their
    first character.
    """
    text = _CONTROL.sub(lambda found: found[0] + " ", text)
    mark = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    while mark in text:
        mark = hashlib.sha256((mark + text).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"<<<answer {mark}>>>\n{text}\n<<<end of answer {mark}>>>"


GAP = re.compile(r"\{([a-z_0-9]+)\}")


def fill(template: str, values: Mapping[str, str]) -> str:
    """Replace each `{name}` in the template with values["name"]. Every gap needs a value and every value a gap.

    Errors: UserError naming the gap without a value or the value without a gap.
    """
    if odd := sorted(set(GAP.findall(template)) ^ set(values)):
        raise UserError(f"template {template[:60]!r}…: gap {odd[0]!r} is not in both the template and what fills it")
    return GAP.sub(lambda gap: values[gap[1]], template)


def with_fences(template: str) -> str:
    """Return the template with quoted answer gaps, for hashing or display."""
    untrusted = {gap for gap in GAP.findall(template) if gap.startswith(("answer", "output"))}
    return GAP.sub(lambda gap: fenced(gap[0]) if gap[1] in untrusted else gap[0], template)


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
