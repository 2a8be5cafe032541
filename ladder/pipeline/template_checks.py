"""Checks of the base's chat template before anything runs: that it exists, and that a local tokenizer can use it."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ladder.pipeline.config import fit
from ladder.pipeline.names import Fault, did_you_mean
from ladder.pipeline.stage import UserError

TEMPLATES = Path("data/templates")


def template_faults(section: dict[str, Any]) -> Iterator[Fault]:
    """Find a base.chat_template that is missing, or that the tokenizer of a local base model cannot use."""
    template, source = section.get("chat_template"), section.get("source")
    keys = ("base", "chat_template")
    if isinstance(template, str) and not template.startswith("trl:") and not (TEMPLATES / template).is_file():
        there = [file.name for file in TEMPLATES.glob("*.jinja")]
        near = did_you_mean(template, there) or f"; expected one of {', '.join(sorted(there)) or 'none'}"
        yield Fault(keys, f"no such file: {TEMPLATES / template}{near}")
        return
    try:
        if isinstance(source, str) and (Path(source) / "tokenizer_config.json").is_file():
            _prove_template(section)
        elif isinstance(template, str) and template.startswith("trl:"):
            from ladder.chat.templates import read_template

            read_template(template, TEMPLATES)
    except UserError as refusal:
        yield Fault(keys, str(refusal))


def _prove_template(section: dict[str, Any]) -> None:
    """Validate the chat template of a local model as the stage `base` does, without its weights. Errors: UserError."""
    from ladder.models.weights import read_tokenizer
    from stages.base import Params, check_plain, repair, set_template

    params = fit(Params, section, "base")
    source = str(params.source)
    check_plain(Path(source), source)
    tokenizer = read_tokenizer(Path(source), source)
    set_template(tokenizer, params, TEMPLATES)
    with contextlib.redirect_stdout(sys.stderr):
        repair(tokenizer, source, bos=params.bos == "template")
