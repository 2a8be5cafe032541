"""Errors of users and of rows. A separate module, because every other module may import it."""

import re

LONG_WORD = re.compile(r"(\S{200})\S{200,}")
LONGEST = 4000
"""Maximum length of a message in characters."""


class UserError(Exception):
    """User-facing error: one sentence that names the file, line or key, and what was expected.

    Overlong words and messages are truncated.
    """

    def __str__(self) -> str:
        text = LONG_WORD.sub(lambda word: f"{word[1]}...", super().__str__())
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 1000]} ... {text[-900:]}"


class InvalidRow(Exception):
    """Error for one row that cannot be read, with a message of the form `what: detail`.

    The row goes to quarantine and the run continues. Quarantined rows are counted by `what`.
    """
