"""API key of an endpoint: read from its environment variable, validated, and masked in all output."""

import os
from dataclasses import dataclass

from ladder.inference.endpoint import Endpoint
from ladder.pipeline.secrets import PREFIXES, masked
from ladder.pipeline.stage import UserError

PLACEHOLDER = 16
"""Minimum key length to mask in replies. A shorter key is a local server's placeholder (`EMPTY`, `token-abc`), which
may occur in a reply by chance."""
SHORTEST = 8
"""Minimum key length to mask in messages; a shorter key may occur in a server's message by chance."""


@dataclass(frozen=True)
class Key:
    """Bearer token and the environment variable that it comes from."""

    name: str
    value: str

    def header(self) -> dict[str, str]:
        """Authorization header; empty if there is no key."""
        return {"Authorization": f"Bearer {self.value}"} if self.value else {}

    def masked(self, text: str) -> str:
        """Mask this key, and other text with the format of a key, in a message."""
        random = self.value.startswith(tuple(PREFIXES.split("|"))) or any(map(str.isdigit, self.value))
        if len(self.value) >= PLACEHOLDER or (len(self.value) >= SHORTEST and random):
            text = text.replace(self.value, f"<{self.name}>")
        return masked(text)

    def masked_in_reply(self, text: str) -> str:
        """Mask this key in a model's reply; the rest is unchanged."""
        return text.replace(self.value, f"<{self.name}>") if len(self.value) >= PLACEHOLDER else text


def key_of(endpoint: Endpoint) -> Key:
    """Read an endpoint's key and strip surrounding whitespace. The key is not validated; see `checked`."""
    name = endpoint.key_name or ""
    return Key(name, os.environ.get(name, "").strip(" \t\r\n\v\f\x00\x1c\x1d\x1e\x1f\x85\xa0\u2028\u2029\ufeff"))


def checked(key: Key, endpoint: Endpoint) -> Key:
    """Validate a key. Errors: UserError if it is missing or has a character no key has; the key is not shown."""
    if not key.value:
        if endpoint.key_env or (key.name and not endpoint.is_local):
            raise UserError(f"environment variable {key.name}: unset or empty; expected the key of {endpoint.base_url}")
        return key
    for number, one in enumerate(key.value, start=1):
        if not "!" <= one <= "~":
            what = "a blank" if one.isspace() else "a control character" if one < " " else "a character beyond ASCII"
            raise UserError(
                f"environment variable {key.name}: {what} at character {number} of {len(key.value)}; expected visible "
                "ASCII characters. Copy the key again."
            )
    if key.value[0] in "'\"":
        raise UserError(f"environment variable {key.name}: the key is quoted; expected no quotes. Remove them.")
    return key
