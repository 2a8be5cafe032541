"""Chat templates: loading, customization, and validation.

User settings for a template (`enable_thinking`, a date, merging of the system message) are written into the
template's text. The text is part of a rung's identity and is saved with it, so training, inference here and any other
program render a conversation identically.
"""

import difflib
import importlib.util
import json
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, meta, nodes
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import _compile_jinja_template

from ladder.chat.encode import encode, prompt_tokens
from ladder.chat.rendering import Messages, render, template_text
from ladder.pipeline.files import read_text
from ladder.pipeline.names import did_you_mean
from ladder.pipeline.stage import UserError

SECONDS = 10.0
"""Time limit for the test conversations, in seconds. They normally take about ten milliseconds."""
LONGEST = 1_000_000
"""Maximum characters that a template may render for a test conversation of about a hundred characters."""
OURS = {"messages", "add_generation_prompt", "strftime_now", "raise_exception", "bos_token", "eos_token", "pad_token"}
"""Template variables that are set for every conversation."""
MERGE = (
    "{%- if messages and messages[0]['role'] == 'system' -%}"
    "{%- if messages | length > 1 and messages[1]['role'] == 'user' -%}"
    "{%- set messages = [{'role': 'user', 'content': messages[0]['content'] + '\\n\\n' + messages[1]['content']}]"
    " + messages[2:] -%}"
    "{%- else -%}"
    "{%- set messages = [{'role': 'user', 'content': messages[0]['content']}] + messages[1:] -%}"
    "{%- endif -%}{%- endif -%}"
)
SYSTEM: Messages = [{"role": "system", "content": "Answer in few words, please."}]


def trl_templates() -> Path:
    """Return the folder of the templates in TRL's package, without importing TRL."""
    spec = importlib.util.find_spec("trl")
    assert spec is not None and spec.origin is not None  # TRL is one of our requirements
    return Path(spec.origin).parent / "chat_templates"


def read_template(name: str, folder: Path) -> str:
    """Read a template: `trl:NAME` from TRL's package (`trl:qwen3_training`), or a file of `folder`.

    Errors: UserError with the closest names.
    """
    if name.startswith("trl:"):
        folder, name, kind = trl_templates(), f"{name[4:]}.jinja", "TRL has no template"
    else:
        kind = f"{folder} has no file"
    names = sorted(path.name for path in folder.glob("*.jinja"))
    if name not in names or Path(name).name != name:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.3) or names
        raise UserError(f"base.chat_template: {kind} {name!r}; closest names: {', '.join(near) or 'none'}")
    return read_text(folder / name)


def single_template(tokenizer: PreTrainedTokenizerBase, source: str) -> str:
    """Return the tokenizer's only template, or its `default` of several named ones.

    Errors: UserError with the names.
    """
    try:
        return template_text(tokenizer)
    except UserError as refusal:
        raise UserError(f"{source}: {refusal}") from None


def fixed(
    template: str, *, arguments: dict[str, Any], merge_system: bool = False, clock: str | None = None, bos: bool = False
) -> str:
    """Write user settings into the template's text. Without settings, the template is returned unchanged.

    arguments: variables that the template reads (`enable_thinking: false`).
    merge_system: put the system message into the first user turn.
    clock: ISO date and time that `strftime_now` returns.
    bos: write the BOS token first.

    Errors: UserError for an argument that the template does not read, and for an invalid date.
    """
    if clock is not None:
        template = _stopped_clock(template, clock)
    unknown = set(arguments) - (read := variables(template) - OURS)
    if unknown:
        near = did_you_mean(name := sorted(unknown)[0], read)
        raise UserError(
            f"base.chat_template_kwargs: the chat template does not read {name!r}{near}; it reads "
            f"{', '.join(sorted(read)) or 'none'}"
        )
    prelude = "{{- bos_token -}}" if bos else ""
    prelude += MERGE if merge_system else ""
    prelude += "".join(f"{{%- set {name} = {_literal(value)} -%}}" for name, value in sorted(arguments.items()))
    if not prelude:
        return template
    return (
        prelude + "{{- '' }}" + re.sub(r"\A[ \t]+(?=\{%(?!\+))", "", template)
    )  # lstrip_blocks applies only at the start of a line


def variables(template: str) -> set[str]:
    """Return the variables that a template reads from outside. Errors: UserError for invalid Jinja.

    A variable that the template sets itself counts if the template first tests whether it is defined.
    """
    try:
        tree = _compile_jinja_template(template).environment.parse(template)
        read = set(meta.find_undeclared_variables(tree))
        own = {name.name for name in tree.find_all(nodes.Name) if name.ctx == "store"}
        asked = re.compile(r"\b(\w+)\s*(?:is\s+(?:not\s+)?defined|\|\s*default)")
        return read - own | read & set(asked.findall(template))
    except TemplateError as error:
        line = f", line {error.lineno}" if hasattr(error, "lineno") else ""
        raise UserError(f"the chat template is not valid Jinja{line}: {error}") from None


def _literal(value: Any) -> str:
    """Format a JSON value as a Jinja literal."""
    match value:
        case None | True | False:
            return str(value).lower()
        case dict():
            return "{" + ", ".join(f"{_literal(str(key))}: {_literal(each)}" for key, each in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_literal, value)) + "]"
        case str():
            return json.dumps(value)
    return repr(value)


def _stopped_clock(template: str, clock: str) -> str:
    try:
        moment = datetime.fromisoformat(clock)
    except ValueError:
        raise UserError(f"base.clock: expected a date such as 2025-01-31 or 2025-01-31T12:00, got {clock!r}") from None
    call = re.compile(r"strftime_now\(\s*(['\"])(.*?)\1\s*\)")
    return call.sub(lambda found: json.dumps(moment.strftime(found[2])), template)


@contextmanager
def time_limit(seconds: float, refusal: str) -> Iterator[None]:
    """Context manager that raises UserError after `seconds` in the main thread. In other threads there is no limit."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise UserError(refusal)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def prove_rendering(tokenizer: PreTrainedTokenizerBase, turns: Messages, source: str) -> list[str]:
    """Render and encode test conversations of one to four exchanges, with and without a system message.

    Returns one sentence for each reason for which training will reject rows.

    Errors: UserError when the first conversation cannot be rendered, or when the template is not valid Jinja, does
    not end, writes too much text, or is not deterministic.
    """
    cannot: dict[str, list[str]] = {}
    with time_limit(
        SECONDS, f"{source}: the chat template does not end within {SECONDS:.0f} s for a short conversation"
    ):
        variables(template_text(tokenizer))
        first = render(tokenizer, turns, answer=False, where=source)
        if len(first) > LONGEST:
            raise UserError(f"{source}: the chat template writes {len(first):,} characters for a short conversation")
        if first != render(tokenizer, turns, answer=False):
            raise UserError(
                f"{source}: the chat template is not deterministic: it renders one conversation in two ways"
            )
        for count in range(1, 5):
            for before in ([], SYSTEM):
                if refusal := _tried(tokenizer, [*before, *turns * count]):
                    what = f"{count} exchange{'s' * (count > 1)}{' with a system message' * bool(before)}"
                    cannot.setdefault(refusal, []).append(what)
    return [
        f"{', '.join(kinds)}: {refusal.rstrip('.')}.{training_hint(tokenizer)}" for refusal, kinds in cannot.items()
    ]


def training_hint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return further options as text: TRL's training variant of this template, and the variables that it reads."""
    template = template_text(tokenizer)
    folder = trl_templates()
    hint = ""
    for path in sorted(folder.glob("*_training.jinja")):
        original = path.with_name(path.name.replace("_training", ""))
        if original.is_file() and original.read_text(encoding="utf-8") == template:
            hint += f" TRL has a training variant of this template: base.chat_template: trl:{path.stem}."
    if read := variables(template) - OURS - {"tools", "documents"}:
        hint += f" The template reads {', '.join(sorted(read))} (base.chat_template_kwargs)."
    return hint


def _tried(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> str:
    try:
        encode(tokenizer, messages)
        prompt_tokens(tokenizer, messages[:-1])
    except UserError as refusal:
        return str(refusal)
    return ""


def check_bos(tokenizer: PreTrainedTokenizerBase, turns: Messages, source: str) -> None:
    """Reject a template without a BOS token if the tokenizer adds one to any other text. Errors: UserError."""
    bos = tokenizer.bos_token_id
    expects = bos is not None and list(tokenizer("a").input_ids)[:1] == [bos]
    if expects and prompt_tokens(tokenizer, turns[:1])[0] != bos:
        raise UserError(
            f"{source}: the tokenizer starts a text with {tokenizer.bos_token!r}, but the chat template does not. Set "
            "base.bos: add if the model was trained with it, otherwise base.bos: none."
        )
