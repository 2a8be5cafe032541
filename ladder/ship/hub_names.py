"""Addresses of models on the Hugging Face Hub: ORG/NAME, with a commit where it is known."""

import re
from typing import NamedTuple, Self

from ladder.pipeline.errors import UserError

SOURCE = re.compile(r"hub:(?P<name>[^/@]+/[^/@]+)@(?P<revision>[0-9a-f]+)")
"""`base.source` of a model of the hub."""


class HubName(NamedTuple):
    """Model of the hub, or a path; `revision` is a commit, tag or branch."""

    name: str
    revision: str | None

    @classmethod
    def parsed(cls, text: str) -> Self:
        """Parse ORG/NAME, ORG/NAME@REVISION or a path. Errors: UserError for an empty part."""
        name, mark, revision = text.partition("@")
        if not name or (mark and not revision):
            raise UserError(f"--base-model: expected ORG/NAME, ORG/NAME@COMMIT or a path, got {text!r}")
        return cls(name, revision or None)


def hub_base(source: str | None) -> HubName | None:
    """Return the model of the hub that a base was imported from; None for any other source."""
    found = SOURCE.fullmatch(source or "")
    return HubName(found["name"], found["revision"]) if found else None
