"""Prompts with named gaps, filled in one pass: what fills a gap is never read as a gap itself.

Gaps whose names begin with "answer" or "output" are for what nobody vouches for: `fenced` text goes there."""

import re
from collections.abc import Mapping

from ladder.data.quoting import fenced
from ladder.pipeline.stage import UserError

GAP = re.compile(r"\{([a-z_0-9]+)\}")


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with `{name}` replaced by values["name"], each gap by its own value and each value used.

    Errors: UserError, naming the gap without a value or the value without a gap.
    """
    if odd := sorted(set(GAP.findall(template)) ^ set(values)):
        raise UserError(f"template {template[:60]!r}…: gap {odd[0]!r} is not in both the template and what fills it")
    return GAP.sub(lambda gap: values[gap[1]], template)


def with_fences(template: str) -> str:
    """The template as text to be hashed or shown: fences drawn around the gaps for answers."""
    untrusted = {gap for gap in GAP.findall(template) if gap.startswith(("answer", "output"))}
    return GAP.sub(lambda gap: fenced(gap[0]) if gap[1] in untrusted else gap[0], template)
