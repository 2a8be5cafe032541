"""Prompt templates with named gaps, filled in one pass: gaps inside the inserted values are not expanded.

Gaps whose names begin with "answer" or "output" take untrusted model output, quoted with `fenced`. Markers of chat
templates are broken in every value (`plain`), so no value can end the prompt's message.
"""

import re
from collections.abc import Mapping

from ladder.data.quoting import fenced, plain
from ladder.pipeline.stage import UserError

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
