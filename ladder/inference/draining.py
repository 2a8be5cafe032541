"""Graceful shutdown on Ctrl-C: requests in flight are paid for, so their replies are awaited."""

import asyncio
import signal
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from ladder.inference.rate_limiter import RateLimiter

LONGEST = 600.0
"""Maximum seconds to wait for replies, even if the request timeout is longer."""


class Drain:
    """Context manager that handles Ctrl-C in a task of an event loop.

    The first Ctrl-C stops sending; the task continues until the requests in flight are done, for at most `seconds`. A
    second Ctrl-C cancels the task. Only the main thread receives signals: in other threads, and in a process that
    ignores SIGINT, this does nothing.
    """

    def __init__(self, pace: RateLimiter, seconds: float, report: Callable[[str], None]) -> None:
        self.pace, self.seconds, self.report = pace, min(seconds, LONGEST), report
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
        """Handle SIGINT."""
        first, self.interrupted = not self.interrupted, True
        self.pace.end()
        if self.task is None:
            return
        if first and self.pace.under_way:
            self.report(
                f"interrupted: waiting for {self.pace.under_way} replies in flight, up to {self.seconds:g} s; press "
                "Ctrl-C again to discard them"
            )
            self.loop.call_later(self.seconds, self.task.cancel)
        else:
            self.task.cancel()
