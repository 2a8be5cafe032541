"""Rate limiter with caps on concurrency and requests per minute, and AIMD backoff on HTTP 429.

The concurrency limit follows TCP's congestion window (Jacobson 1988, "Congestion Avoidance and Control"). A 429 halves
the limit, once for all requests that were sent before the last halving. As many replies as there are requests in flight
raise it by one. After a 429 nothing is sent for as long as the server asks, or for an exponential backoff if that is
longer. The backoff is reset by any other response.
"""

import asyncio
import contextlib
import random

from ladder.inference.endpoint import Endpoint


class RateLimiter:
    """Rate limiter of one endpoint. Call `begin` in the event loop that sends the requests. The learned limit carries
    over to the next event loop."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.most = self.room = float(endpoint.concurrency)
        """Concurrency limit: maximum (`most`) and current (`room`)."""
        self.interval = 60 / endpoint.requests_per_minute if endpoint.requests_per_minute else 0.0
        self.free_at = self.paused_until = self.halved_at = 0.0
        self.halvings = 0
        """Halvings since the last response other than 429."""

    def begin(self) -> None:
        self.stop, self.landing, self.gate = asyncio.Event(), asyncio.Event(), asyncio.Lock()
        self.under_way, self.heard_at = 0, self._now()

    async def turn(self) -> float | None:
        """Wait for permission to send; return the start time on the loop's clock in seconds, or None if stopped."""
        async with self.gate:  # first come, first served
            while not self.stop.is_set():
                now = self._now()
                if (wait := max(self.free_at, self.paused_until) - now) > 0:
                    await self.pause(wait)
                elif self.under_way >= int(self.room):
                    self.landing.clear()
                    await self.landing.wait()
                else:
                    self.free_at = now + self.interval
                    self.under_way += 1
                    return now
        return None

    def landed(self) -> None:
        """Mark one request in flight as done."""
        self.under_way -= 1
        self.landing.set()

    def end(self) -> None:
        """Stop: no more requests may be sent."""
        self.stop.set()
        self.landing.set()

    def heard(self, *, reply: bool) -> None:
        """Record a response other than 429. A reply raises the concurrency limit by 1/limit."""
        self.heard_at, self.halvings = self._now(), 0
        if reply:
            self.room = min(self.most, self.room + 1 / self.room)

    def busy(self, sent: float, asked: float) -> None:
        """Record a 429 to a finished request: `sent` is its start time, `asked` the wait that the server requests."""
        now, wait = self._now(), asked
        if sent >= self.halved_at:
            wait = max(asked, backoff(self.halvings))
            self.room = max(1.0, min(self.room, self.under_way + 1) / 2)
            self.halved_at = now
            self.halvings += 1
        self.hold(wait)

    def hold(self, seconds: float) -> None:
        """Send nothing for `seconds`, plus up to 25% jitter: other clients were given the same wait."""
        self.paused_until = max(self.paused_until, self._now() + seconds * (1 + 0.25 * random.random()))

    def silent(self) -> float:
        """Seconds since the server's last response other than 429."""
        return self._now() - self.heard_at

    async def pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stop.wait()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def backoff(tried: int) -> float:
    """Exponential backoff in seconds: 0.5 * 2**tried, at most 60, minus up to 25% jitter."""
    return min(60.0, 0.5 * 2 ** min(tried, 7)) * (1 - 0.25 * random.random())
