"""Ctrl-C while requests are under way: they are paid, so their replies are waited for."""

import asyncio
import signal
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from ladder.inference.rate_limiter import RateLimiter

LONGEST = 600.0
"""Seconds in which replies are waited for at most, whatever the timeout of a request."""


class Drain:
    """Within `with`, in a task of an event loop: the first Ctrl-C stops what is sent, and the task goes on until what
    is under way has landed, or for `seconds`. A second one cancels the task.

    Only the main thread gets signals: elsewhere, and in a process that ignores Ctrl-C, this does nothing.
    """

    def __init__(self, pace: RateLimiter, seconds: float, tell: Callable[[str], None]) -> None:
        self.pace, self.seconds, self.tell = pace, min(seconds, LONGEST), tell
        self.interrupted = False

    def __enter__(self) -> Self:
        self.loop, self.task = asyncio.get_running_loop(), asyncio.current_task()
        self.before: Any = signal.getsignal(signal.SIGINT)
        try:
            self.handled = self.before is not signal.SIG_IGN
            if self.handled:
                self.loop.add_signal_handler(signal.SIGINT, self.interrupt)
        except (RuntimeError, ValueError, NotImplementedError):
            self.handled = False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.handled:
            self.loop.remove_signal_handler(signal.SIGINT)
            signal.signal(signal.SIGINT, self.before)

    def interrupt(self) -> None:
        """What Ctrl-C does."""
        first, self.interrupted = not self.interrupted, True
        self.pace.end()
        if self.task is None:
            return
        if first and self.pace.under_way:
            self.tell(
                f"interrupted: {self.pace.under_way} replies under way are waited for, up to {self.seconds:g} s; press "
                "Ctrl-C again to drop them"
            )
            self.loop.call_later(self.seconds, self.task.cancel)
        else:
            self.task.cancel()
