"""Finding of `ladder doctor`: a problem, with an optional repair."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Finding:
    """One problem."""

    subject: str
    """Checked part of the repository: `rung`, `cache`, `lock`, `leftover`, `queue`, `remote`."""
    sentence: str
    """Location, problem and manual fix."""
    repair: Callable[[], str] | None = field(default=None, repr=False)
    """Repairs the problem and returns a description of what was done; None if only the user can repair it."""
    done: str = ""
    """Description of the repair; empty before it."""
