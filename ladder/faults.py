"""What an endpoint may send in place of a reply."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """What came in place of a reply."""

    cause: str
    status: int = 0
    """0: no answer of the server, or one that is no chat completion."""
    of_all: bool = False
    """Whether every request would meet it."""
    again: bool = True
    """Whether another try may have a reply."""
    wait: float = 0.0
    """Seconds that the server asks to wait."""
