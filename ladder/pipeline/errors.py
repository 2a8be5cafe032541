"""Errors of users and of rows. A separate module, because every other module may import it."""

import re

LONG_WORD = re.compile(r"(\S{200})\S{200,}")
LONGEST = 4000
"""Maximum length of a message in characters."""
OWN_VALUE = re.compile(r", (?:got|unable to) [a-z ]+$")
"""End of a pydantic message that describes the value; our messages show the value instead."""
SHORT = {"Field required": "missing", "Extra inputs are not permitted": "no such key"}


class UserError(Exception):
    """User-facing error: one sentence that names the file, line or key, and what was expected.

    Overlong words and messages are truncated.
    """

    def __str__(self) -> str:
        text = LONG_WORD.sub(lambda word: f"{word[1]}...", super().__str__())
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 1000]} ... {text[-900:]}"


def expectation(message: str) -> str:
    """Rephrase a pydantic message: "Input should be a valid integer, unable to ..." to "expected a valid integer"."""
    plain = SHORT.get(message, message.removeprefix("Value error, "))
    if not plain.startswith("Input should"):
        return plain
    plain = OWN_VALUE.sub("", plain).replace("Input should be", "expected", 1).replace("Input should", "expected to", 1)
    return re.sub(r"^expected (?=greater|less)", "expected a value ", plain)


class InvalidRow(Exception):
    """Error for one row that cannot be read, with a message of the form `what: detail`.

    The row goes to quarantine and the run continues. Quarantined rows are counted by `what`.
    """
