"""Prompt templates with named {gaps}: read from files that a user edits, filled, and safe for untrusted answers.

Gaps whose names begin with "answer" or "output" take untrusted model output, quoted with `fenced`. Markers of chat
templates are broken in every value (`plain`), so no value can end the prompt's message.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from ladder.pipeline.errors import UserError
from ladder.pipeline.files import read_text

_NAMES = "s|bos|eos|pad|unk|mask|sop|eop|eod|start_of_turn|end_of_turn"
_BRACKETED = (
    "INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|CALL_ID|ARGS|THINK|MODEL_SETTINGS|PREFIX"
    "|SUFFIX|MIDDLE|IMG|gMASK|sMASK"
)
# Markers of chat templates: a tokenizer parses them inside a message too, so that an answer could end the judge's
# prompt and begin its reply. Llama, ChatML, Phi, Cohere, Granite and most others; Gemma; DeepSeek; Llama 2; Mistral;
# GLM; Kimi.
_MARKER = re.compile(
    rf"<(?=\||\uff5c|/?(?:{_NAMES})>|</?SYS>>|\w+\|>)|\[(?=/?(?:{_BRACKETED})\])|\u25c1(?=/?\w+\u25b7)"
)
# A judge that quotes verdict brackets of the answer would repeat them.
_VERDICT = re.compile(r"\[(?=\[)")


def plain(text: str) -> str:
    """Insert a space after the first character of chat template markers (`<|im_end|>`, `[INST]`, `</s>`).

    For texts of third parties that a prompt shows without delimiters, for example the request before a quoted answer.
    """
    return _MARKER.sub(lambda found: found[0] + " ", text)


def fenced(text: str, name: str = "answer") -> str:
    """Wrap an untrusted text in two delimiter lines that it cannot contain: each includes a hash of the text.

    Chat template markers (see `plain`) and verdict brackets (`[[10]]`) get a space after their first character. `name`
    is the word for the text in the delimiters.
    """
    text = _VERDICT.sub("[ ", plain(text))
    mark = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    while mark in text:
        mark = hashlib.sha256((mark + text).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"<<<{name} {mark}>>>\n{text}\n<<<end of {name} {mark}>>>"


GAP = re.compile(r"\{([a-z_0-9]+)\}")


def fill(template: str, values: Mapping[str, str]) -> str:
    """Replace each `{name}` in the template with values["name"]. Every gap needs a value and every value a gap.

    Errors: UserError naming the gap without a value or the value without a gap.
    """
    if odd := sorted(set(GAP.findall(template)) ^ set(values)):
        raise UserError(
            f"template {template[:60]!r}…: the placeholder {odd[0]!r} is not in both the template and its values"
        )
    return GAP.sub(lambda gap: plain(values[gap[1]]), template)


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
    text = read_text(path, fix="expected a prompt there").strip()
    if not text:
        raise UserError(f"{path}: empty; expected a prompt")
    return text
