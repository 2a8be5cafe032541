"""The user-facing error: one sentence, no traceback. It has a module of its own because everything may raise it."""

import re

LONG_WORD = re.compile(r"(\S{200})\S{200,}")
LONGEST = 4000
"""Characters of a sentence."""


class UserError(Exception):
    """User-facing error: one sentence that names the file, line or key, and what was expected.

    A value that it shows is cut where it is too long to be read.
    """

    def __str__(self) -> str:
        text = LONG_WORD.sub(lambda word: f"{word[1]}...", super().__str__())
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 1000]} ... {text[-900:]}"
