"""Send requests to an OpenAI-compatible endpoint, with rate limiting, retries and a spending limit.

A busy response (429, 503, 529) is not a failure. The request is sent again, until the server has returned nothing else
for `patience` seconds. Any other fault uses one of the request's `retries`. A request that has none left is postponed
until all others are done; then it gets one last try, and after that it has no reply. The run continues unless more than
the share `max_failed` of its requests fail. An error that every request would meet (wrong key, unknown model, no
credit, no server) stops the run at once. After Ctrl-C nothing more is sent; replies in flight are awaited and kept.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Iterator

from tqdm import tqdm

from ladder.data.jsonl import Row
from ladder.inference.api_keys import checked, key_of
from ladder.inference.completions import Completion, Finish
from ladder.inference.draining import Drain
from ladder.inference.endpoint import Bought, Budget, Endpoint
from ladder.inference.error_table import Kind
from ladder.inference.http import Sender
from ladder.inference.rate_limiter import RateLimiter, backoff
from ladder.inference.server_errors import Fault
from ladder.pipeline.stage import UserError

LOOK = 0.05
"""Polling interval in seconds while all of the remaining request budget is in flight."""
ROUNDING = 1e-9
"""Tolerance for the share of failed requests: share * requests may be slightly below a whole number."""
EMPTY_RETRIES = 2
"""Maximum number of retries for an empty answer; each one is paid for."""


class RequestSender:
    """Sender of requests to one endpoint. No returned value and no error contains the API key."""

    def __init__(self, endpoint: Endpoint, budget: Budget) -> None:
        try:
            budget.check(endpoint)
        except ValueError as error:
            raise UserError(str(error)) from None
        self.endpoint, self.budget, self.bought = endpoint, budget, Bought()
        self.pace = RateLimiter(endpoint)
        self.where = f"endpoint {endpoint.base_url}"
        self.key = key_of(endpoint)
        self.takes_formats = True
        self.wanted = self.failed = self.empty = 0
        """`wanted`: distinct requests, including those in the cache; `failed`: those that failed for good; `empty`:
        replies without text."""
        self.last_failure = ""
        self.without: dict[Kind, list[str]] = {}
        """Server messages for requests without a reply, by kind."""
        self.unknown: Counter[str] = Counter()
        """Counts of finish reasons that are missing from the table in ladder/inference/completions.py."""

    def buy(self, bodies: dict[str, Row], keep: Callable[[str, Row], None], bar: "tqdm[None]") -> None:
        """Send every body, and `keep` each reply under its key as soon as it arrives; failed requests are skipped.

        Errors: UserError when the server cannot be reached, refuses all or too many requests, or the budget is
        exhausted; KeyboardInterrupt after Ctrl-C. In each case, requests in flight are awaited and kept first.
        """
        self.key = checked(self.key, self.endpoint)
        drain = Drain(self.pace, self.endpoint.timeout, self._report)
        try:
            asyncio.run(self._buy(bodies, keep, bar, drain))
        except asyncio.CancelledError:
            if not drain.interrupted:
                raise
        if drain.interrupted:
            raise KeyboardInterrupt("replies so far are saved; run again to continue")

    def fail(self, cause: str) -> None:
        """Count a request that failed for good.

        Errors: UserError when more than the endpoint's share `max_failed` have failed.
        """
        self.failed += 1
        self.last_failure = self.key.masked(cause)
        share = self.endpoint.max_failed
        if self.failed > share * self.wanted + ROUNDING:
            raise self._refused(
                f"{cause}; {self.failed} of {self.wanted} requests failed, more than the share endpoint.max_failed: "
                f"{share:g}. Replies so far are saved: run again for the others, or raise it."
            )

    async def _buy(
        self, bodies: dict[str, Row], keep: Callable[[str, Row], None], bar: "tqdm[None]", drain: Drain
    ) -> None:
        self.pace.begin()

        async def work(left: Iterator[tuple[str, Row]], retries: int, again: dict[str, Row]) -> None:
            try:
                for key, body in left:
                    if self.pace.stop.is_set():
                        return
                    reply = await self._reply(sender, body, retries)
                    if isinstance(reply, Completion):
                        row = self._row(reply)
                        keep(key, row)
                        self._check_usage(row)
                    elif reply is not None and reply.no_reply:
                        self.without.setdefault(reply.kind, []).append(reply.cause)
                    elif reply is not None:
                        self.fail(reply.cause)
                        if reply.again:
                            again[key] = body
                            continue
                    bar.set_postfix_str(self.spending(), refresh=False)
                    bar.update()
            except BaseException:
                self.pace.end()  # the other workers finish their current request and start no new one
                raise

        async def all_of(bodies: dict[str, Row], retries: int) -> dict[str, Row]:
            left, again = iter(bodies.items()), dict[str, Row]()
            workers = (work(left, retries, again) for _ in range(min(self.endpoint.concurrency, len(bodies))))
            for error in await asyncio.gather(*workers, return_exceptions=True):
                if error is not None:
                    raise error
            return again

        with drain:
            async with Sender(self.endpoint, self.key) as sender:
                again = await all_of(bodies, self.endpoint.retries)
                self.failed -= len(again)  # they get a last try: the server may have been down only for a while
                bar.update(len(await all_of(again, 0)))

    async def _reply(self, sender: Sender, body: Row, retries: int) -> Completion | Fault | None:
        """Return a reply, or the fault of the last try; None if the run was stopped in the meantime."""
        bare = {name: body[name] for name in body if name != "response_format"}
        form, tried, empty = body, 0, 0
        unformed: Fault | None = None
        limited_since: float | None = None
        while (sent := await self.pace.turn()) is not None:
            if self.bought.requests == self.budget.requests and self.pace.under_way > 1:
                self.pace.landed()
                await self.pace.pause(LOOK)  # a request in flight may get a 429, which gives its budget back
                continue
            form = form if self.takes_formats else bare
            try:
                found = await self._sent(sender, form)
            finally:
                self.pace.landed()
            if isinstance(found, Completion):
                if unformed and self.takes_formats:
                    self._drop_formats(unformed)
                if not found.text.strip() and found.finish in (Finish.STOP, Finish.MISSING):
                    if empty < min(retries, EMPTY_RETRIES):
                        empty += 1
                        continue
                    self.empty += 1
                return found
            if found.limited:
                self._check_patience(found)
                self.pace.busy(sent, found.wait)
                limited_since = limited_since or sent
                if sent - limited_since > self._patience():
                    return found  # the server answers other requests, but not this one
                continue
            self.pace.heard(reply=False)
            if found.no_reply:
                return found
            if found.kind == Kind.REQUEST and form is not bare and "response_format" in form:
                form, unformed = bare, found  # the server may not support the schema: retry without response_format
                continue
            if tried == retries or not found.again:
                if found.of_all:
                    raise self._refused(self._hinted(found))
                return found
            self.pace.hold(found.wait)
            await self.pace.pause(backoff(tried))
            tried += 1
        return None

    async def _sent(self, sender: Sender, form: Row) -> Completion | Fault:
        """Send one request. Errors: UserError when the budget is exhausted, or the server asks for too long a wait."""
        self._spend()
        found = await sender.send(form)
        if isinstance(found, Fault):
            if found.status or found.kind != Kind.SERVER:  # refused, so it costs nothing
                self.bought.requests -= 1
            if found.wait > self._patience():
                raise self._refused(
                    f"{found.cause}; asks to wait {found.wait:.0f} s. Replies so far are saved: run again after that."
                )
            return found
        self.bought.prompt_tokens += found.prompt_tokens
        self.bought.tokens += found.tokens
        self.pace.heard(reply=True)
        if found.finish == Finish.FILTER and not found.text.strip():
            return Fault(f"answered with finish_reason {found.reason!r} and without text", Kind.FILTER)
        if found.finish == Finish.OTHER:
            self.unknown[found.reason] += 1
        return found

    def _hinted(self, fault: Fault) -> str:
        """Error text for a fault of all requests, with a hint at a setting that may be missing."""
        if fault.kind == Kind.KEY and not self.key.value:
            name = self.endpoint.key_name or "the environment variable of its key"
            return f"{fault.cause}; no key was sent. Name its environment variable in endpoint.key_env ({name})."
        if fault.status == 404:
            return f"{fault.cause}; expected a model {self.endpoint.model!r} at this address; most addresses end in /v1"
        return fault.cause

    def _patience(self) -> float:
        """Patience in seconds: at least `timeout`, since a reply in flight may take that long."""
        return max(self.endpoint.patience, self.endpoint.timeout)

    def _check_patience(self, fault: Fault) -> None:
        if (silent := self.pace.silent()) > self._patience():
            raise self._refused(
                f"{fault.cause}; no other answer for {silent:.0f} s. Replies so far are saved: run again later."
            )

    def spending(self) -> str:
        """Spending so far, as money or (without prices) tokens, and the concurrency if the server has reduced it."""
        slowed = f", {int(self.pace.room)} at once" if self.pace.room < self.pace.most else ""
        if self.endpoint.prices:
            return f"cost {self.bought.cost(self.endpoint.prices):.4f}{slowed}"
        return f"{self.bought.prompt_tokens} + {self.bought.tokens} tokens{slowed}"

    def _spent(self) -> str:
        """The exhausted part of the budget in words; "" if there is none."""
        budget, bought, prices = self.budget, self.bought, self.endpoint.prices
        if budget.requests is not None and bought.requests >= budget.requests:
            return f"{budget.requests} requests"
        if budget.tokens is not None and bought.prompt_tokens + bought.tokens >= budget.tokens:
            return f"{budget.tokens} tokens"
        if budget.money is not None and prices and bought.cost(prices) >= budget.money:
            return f"{budget.money:g} in money"
        return ""

    def _spend(self) -> None:
        if spent := self._spent():
            raise UserError(
                f"{self.endpoint.model}: the budget of {spent} is spent. Replies so far are saved: run again to "
                "continue, or raise the budget."
            )
        self.bought.requests += 1

    def _row(self, completion: Completion) -> Row:
        """Cache row of a reply."""
        row: Row = {
            "text": self.key.masked_in_reply(completion.text),
            "prompt_tokens": completion.prompt_tokens,
            "tokens": completion.tokens,
            "finished": completion.finished,
            "base_url": self.endpoint.base_url,
        }
        if completion.reasoning:  # no empty field, so that rows equal those written before the field existed
            row["reasoning"] = self.key.masked_in_reply(completion.reasoning)
        return row

    def _check_usage(self, reply: Row) -> None:
        bounded = self.budget.tokens is not None or self.budget.money is not None
        if bounded and not reply["prompt_tokens"] + reply["tokens"]:
            raise self._refused("reports no token usage: only a budget in requests can be enforced there")

    def _drop_formats(self, fault: Fault) -> None:
        self.takes_formats = False
        before, _, said = fault.cause.partition(": ")
        self._report(
            f"{before} to a JSON schema ({said[:100]}): requests omit it from now on; replies are still validated"
        )

    def _report(self, sentence: str) -> None:
        print(self.key.masked(f"{self.where} {sentence}"), file=sys.stderr, flush=True)

    def _refused(self, cause: str) -> UserError:
        return UserError(self.key.masked(f"{self.where} {cause}"))
