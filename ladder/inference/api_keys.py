"""The key of an endpoint: read from its environment variable, checked once, and masked in every text."""

import os
from dataclasses import dataclass

from ladder.inference.endpoint import Endpoint
from ladder.pipeline.secrets import PREFIXES, masked
from ladder.pipeline.stage import UserError

PLACEHOLDER = 16
"""A key shorter than this is one of a local server (`EMPTY`, `token-abc`), and may be part of a reply by chance."""
SHORTEST = 8
"""A key shorter than this may be part of a server's message by chance."""


@dataclass(frozen=True)
class Key:
    """What is sent as a bearer token, and the environment variable that it comes from."""

    name: str
    value: str

    def header(self) -> dict[str, str]:
        """The header that carries it; none for a server that is asked without."""
        return {"Authorization": f"Bearer {self.value}"} if self.value else {}

    def masked(self, text: str) -> str:
        """A message without this key, and without whatever else has the format of a key."""
        random = self.value.startswith(tuple(PREFIXES.split("|"))) or any(map(str.isdigit, self.value))
        if len(self.value) >= PLACEHOLDER or (len(self.value) >= SHORTEST and random):
            text = text.replace(self.value, f"<{self.name}>")
        return masked(text)

    def masked_in_reply(self, text: str) -> str:
        """A model's text without this key, and otherwise as it is."""
        return text.replace(self.value, f"<{self.name}>") if len(self.value) >= PLACEHOLDER else text


def key_of(endpoint: Endpoint) -> Key:
    """The key that an endpoint is sent, without blanks and line ends around it. It is not checked: see `checked`."""
    name = endpoint.key_name or ""
    return Key(name, os.environ.get(name, "").strip(" \t\r\n\v\f\x00\x1c\x1d\x1e\x1f\x85\xa0\u2028\u2029\ufeff"))


def checked(key: Key, endpoint: Endpoint) -> Key:
    """The key, if it can be sent. Errors: UserError where it is missing or holds what no key has; it is not shown."""
    if not key.value:
        if endpoint.key_env or (key.name and not endpoint.is_local):
            raise UserError(f"environment variable {key.name}: unset or empty; expected the key of {endpoint.base_url}")
        return key
    for number, one in enumerate(key.value, start=1):
        if not "!" <= one <= "~":
            what = "a blank" if one.isspace() else "a control character" if one < " " else "a character beyond ASCII"
            raise UserError(
                f"environment variable {key.name}: {what} at character {number} of {len(key.value)}; expected a key of "
                "visible ASCII characters. Copy the key again"
            )
    if key.value[0] in "'\"":
        raise UserError(f"environment variable {key.name}: a key within quotes; remove the quotes")
    return key
