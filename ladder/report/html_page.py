"""Self-contained HTML pages from Jinja templates: one file, without network access, that runs only its own script.

Every value is escaped (`autoescape`). The Content-Security-Policy allows only the page's own style and script, by
their hashes. Hostile text therefore cannot run as a script even if an escape is missing.
"""

import base64
import hashlib
import re
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

PACKAGE = "ladder.report"
INVISIBLE = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufdd0-\ufdef\ufffe\uffff]"
)
"""Characters that a page cannot hold (NUL, lone surrogates), does not show, or that reverse the text after them."""


def render(name: str, **values: Any) -> str:
    """Return the document of `templates/NAME.html` with `static/NAME.css` and `static/NAME.js` inside it.

    values: variables of the template, as plain text; the template escapes them.
    """
    style, script = _static(f"{name}.css"), _static(f"{name}.js")
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    template = ENVIRONMENT.get_template(f"{name}.html")
    return template.render(values, policy=Markup(policy), style=Markup(style), script=Markup(script))


def _static(name: str) -> str:
    return resources.files(PACKAGE).joinpath("static", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _visible(value: Any) -> Any:
    r"""Replace characters that a reader would not see by codes: `\x00`, `\u202e`."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return INVISIBLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), value)


ENVIRONMENT = Environment(
    loader=PackageLoader(PACKAGE),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=_visible,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
