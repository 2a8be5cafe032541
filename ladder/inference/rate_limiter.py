"""When the next request may be sent: so many under way, so many a minute, and fewer for a server that says 429.

How many may be under way falls and rises as TCP's window does (Jacobson 1988, "Congestion Avoidance and Control"): a
429 halves it, once for all that was sent before the last halving, and as many replies as are under way raise it by one.
Meanwhile nothing is sent for as long as the server asks, or for a time that doubles until a reply comes.
"""

import asyncio
import contextlib
import random

from ladder.inference.endpoint import Endpoint


class RateLimiter:
    """The pace of one endpoint's requests. `begin` is called in the event loop that they run in; what was learned of
    the server holds in the next one too."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.most = self.room = float(endpoint.concurrency)
        """How many requests may be under way: at most, and now."""
        self.interval = 60 / endpoint.requests_per_minute if endpoint.requests_per_minute else 0.0
        self.free_at = self.paused_until = self.halved_at = 0.0
        self.halvings = 0
        """Since the last answer that was no 429."""

    def begin(self) -> None:
        self.stop, self.landing, self.gate = asyncio.Event(), asyncio.Event(), asyncio.Lock()
        self.under_way, self.heard_at = 0, self._now()

    async def turn(self) -> float | None:
        """Wait until one more may be sent; the time of its start, or None where all was stopped meanwhile."""
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
        """A request is no longer under way."""
        self.under_way -= 1
        self.landing.set()

    def end(self) -> None:
        """Let nothing more be sent."""
        self.stop.set()
        self.landing.set()

    def heard(self, *, reply: bool) -> None:
        """The server has answered with something else than 429; with a reply it may be asked a little more."""
        self.heard_at, self.halvings = self._now(), 0
        if reply:
            self.room = min(self.most, self.room + 1 / self.room)

    def busy(self, sent: float, asked: float) -> None:
        """A request that was sent then, and has landed, met a 429, which asks to wait so many seconds."""
        now, wait = self._now(), asked
        if sent >= self.halved_at:
            wait = max(asked, backoff(self.halvings))
            self.room = max(1.0, min(self.room, self.under_way + 1) / 2)
            self.halved_at = now
            self.halvings += 1
        self.hold(wait)

    def hold(self, seconds: float) -> None:
        """Send nothing for so long, and up to a quarter longer: other clients were told the same."""
        self.paused_until = max(self.paused_until, self._now() + seconds * (1 + 0.25 * random.random()))

    def silent(self) -> float:
        """Seconds since the server has last answered with something else than 429."""
        return self._now() - self.heard_at

    async def pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stop.wait()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def backoff(tried: int) -> float:
    """Seconds before the next try: half a second, doubled each time, up to a minute; less up to a quarter."""
    return min(60.0, 0.5 * 2 ** min(tried, 7)) * (1 - 0.25 * random.random())
