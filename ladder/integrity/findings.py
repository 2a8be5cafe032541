"""What `python -m ladder doctor` finds: a sentence, and a repair where there is one."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Finding:
    """One thing that is wrong."""

    subject: str
    """The part of the repository that was examined: `rung`, `cache`, `lock`, `leftover`, `queue`, `remote`."""
    sentence: str
    """Location, problem and what to do by hand."""
    repair: Callable[[], str] | None = field(default=None, repr=False)
    """Repairs it and returns what was done; None where a repair is the user's to make."""
    done: str = ""
    """What the repair did; empty before."""
