"""Render the page of `ladder report`: templates, one style and several scripts in one file, without network access."""

import base64
import hashlib
from importlib import resources
from typing import Any

from markupsafe import Markup

from ladder.report.html_page import ENVIRONMENT, PACKAGE

NAME = "report_page"
SCRIPTS = ("report_state.js", "report_curves.js", "report_diff.js", "report_answers.js")
"""In the order in which the page runs them; later ones use the functions of earlier ones."""
UNSAFE = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}
"""Signs that could end a script element or start a comment in it; in JSON they occur only inside of texts."""


def page(*, data: str, **values: Any) -> str:
    """Return the document. data: JSON for the scripts. values: variables of the template, which escapes them.

    The Content-Security-Policy allows the page's own style and scripts, by their hashes, and nothing else.
    """
    style, scripts = _static(f"{NAME}.css"), [_static(name) for name in SCRIPTS]
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {' '.join(map(_hash, scripts))}; "
        "base-uri 'none'; form-action 'none'"
    )
    return ENVIRONMENT.get_template(f"{NAME}.html").render(
        values,
        policy=Markup(policy),
        style=Markup(style),
        scripts=[Markup(script) for script in scripts],
        data=Markup(data.translate(UNSAFE)),
    )


def _static(name: str) -> str:
    return resources.files(PACKAGE).joinpath("static", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
