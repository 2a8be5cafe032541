"""Replies bought of an OpenAI-compatible endpoint: so many requests at once, paced, tried again, within a budget."""

import asyncio
import contextlib
import email.utils
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import openai
from tqdm import tqdm

from ladder.endpoint import Bought, Budget, Endpoint
from ladder.rows import Row
from ladder.run import Refused

LONGEST_WAIT = 600.0
"""Seconds that a server may ask to wait; for more, run again later."""
AGAIN = (408, 409, 429)
"""Statuses below 500 that pass by themselves."""
NO_REPLY = ("context_length_exceeded", "content_filter", "content_policy_violation")
"""Codes of a request that has no reply, whoever asks and however often."""
PLACEHOLDER = 16
"""A key shorter than this is one of a local server (`EMPTY`, `token-abc`), and may stand in a text by chance."""


class Buyer:
    """Buys replies of one endpoint. The key comes from OPENAI_API_KEY; it is in nothing that this returns or raises."""

    def __init__(self, endpoint: Endpoint, budget: Budget) -> None:
        try:
            budget.check(endpoint)
        except ValueError as error:
            raise Refused(str(error)) from None
        self.endpoint, self.budget, self.bought = endpoint, budget, Bought()
        self.interval = 60 / endpoint.requests_per_minute if endpoint.requests_per_minute else 0.0
        self.where = f"endpoint {endpoint.base_url}"
        self.key = os.environ.get("OPENAI_API_KEY") or "none"
        self.takes_formats = True

    def buy(self, bodies: dict[str, Row], keep: Callable[[str, Row], None], bar: "tqdm[None]") -> None:
        """Send every body, and `keep` each reply under its key as soon as it is there; a request without one is left.

        Errors: Refused when the server cannot be reached, refuses a request, or the budget is spent. Requests that
        are under way then are still waited for and kept.
        """
        asyncio.run(self._buy(bodies, keep, bar))

    async def _buy(self, bodies: dict[str, Row], keep: Callable[[str, Row], None], bar: "tqdm[None]") -> None:
        self.stop, self.free_at, self.paused_until = asyncio.Event(), 0.0, 0.0
        left = iter(bodies.items())
        client = openai.AsyncOpenAI(
            base_url=self.endpoint.base_url, api_key=self.key, timeout=self.endpoint.timeout, max_retries=0
        )

        async def work() -> None:
            try:
                for key, body in left:
                    if self.stop.is_set():
                        return
                    reply = await self._reply(client, body)
                    if reply is not None:
                        keep(key, reply)
                        self._check_usage(reply)
                    bar.set_postfix_str(self.spending(), refresh=False)
                    bar.update()
            except BaseException:
                self.stop.set()  # the others finish what is under way, and begin nothing
                raise

        async with client:
            workers = (work() for _ in range(min(self.endpoint.concurrency, len(bodies))))
            ended = await asyncio.gather(*workers, return_exceptions=True)
        for error in ended:
            if error is not None:
                raise error

    async def _reply(self, client: openai.AsyncOpenAI, body: Row) -> Row | None:
        """One reply; None where the request has none, or another has met an error meanwhile."""
        tried = 0
        while True:
            await self._turn()
            if self.stop.is_set():
                return None
            self._spend()
            form = body if self.takes_formats else {name: body[name] for name in body if name != "response_format"}
            wait = None
            try:
                async with asyncio.timeout(self.endpoint.timeout):  # the client's own timeout starts anew at every byte
                    reply: Any = await client.chat.completions.create(**form)
            except openai.APIStatusError as error:
                self.bought.requests -= 1
                if _has_no_reply(error):
                    return None
                if error.status_code in (400, 422) and "response_format" in form:
                    self._drop_formats(error)
                    continue
                cause = f"answered {error.status_code}: {self._without_key(error.message)[:200]}"
                if not _passes(error):
                    raise self._refused(cause) from None
                wait = self._asked_to_wait(error.response.headers.get("retry-after"))
            except (openai.APITimeoutError, TimeoutError):
                cause = f"gave no answer in {self.endpoint.timeout:g} s"
            except openai.APIConnectionError as error:
                cause = f"cannot be reached: {error.__cause__ or error}"
            except ValueError as error:
                cause = f"answered with something that is not JSON: {error}"
            else:
                choice = _choice(reply)
                if choice is not None:
                    return self._counted(choice, reply.usage)
                cause = "answered without a choice"
            if tried == self.endpoint.retries:
                raise self._refused(cause)
            if wait is None:
                await self._pause(backoff(tried))
            tried += 1

    def spending(self) -> str:
        """What was bought so far: in money where prices are known, else in tokens."""
        if self.endpoint.prices:
            return f"cost {self.bought.cost(self.endpoint.prices):.4f}"
        return f"{self.bought.prompt_tokens} + {self.bought.tokens} tokens"

    def _spent(self) -> str:
        """Which part of the budget is used up, in words; empty while none is."""
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
            raise Refused(
                f"{self.endpoint.model}: its budget of {spent} is used up; what was bought is kept, so run again to "
                "buy the rest, or raise the budget"
            )
        self.bought.requests += 1

    def _counted(self, choice: Any, usage: Any) -> Row:
        prompt_tokens, tokens = (usage.prompt_tokens or 0, usage.completion_tokens or 0) if usage else (0, 0)
        self.bought.prompt_tokens += prompt_tokens
        self.bought.tokens += tokens
        return {
            "text": self._without_key(choice.message.content or ""),
            "prompt_tokens": prompt_tokens,
            "tokens": tokens,
            "finished": choice.finish_reason == "stop",
            "base_url": self.endpoint.base_url,
        }

    def _check_usage(self, reply: Row) -> None:
        bounded = self.budget.tokens is not None or self.budget.money is not None
        if bounded and not reply["prompt_tokens"] + reply["tokens"]:
            raise self._refused("does not tell how many tokens it used: only a budget in requests can be kept there")

    def _drop_formats(self, error: openai.APIStatusError) -> None:
        if self.takes_formats:
            print(
                f"{self.where} answered {error.status_code} to a JSON schema "
                f"({self._without_key(error.message)[:100]}): it is asked without one from now on, and what it writes "
                "is checked",
                file=sys.stderr,
                flush=True,
            )
        self.takes_formats = False

    def _refused(self, cause: str) -> Refused:
        return Refused(self._without_key(f"{self.where} {cause}"))

    def _without_key(self, text: str) -> str:
        return text.replace(self.key, "<OPENAI_API_KEY>") if len(self.key) >= PLACEHOLDER else text

    def _asked_to_wait(self, header: str | None) -> float | None:
        """Let every request wait as long as the server says. Errors: Refused when that is too long."""
        wait = retry_after(header)
        if wait is not None and wait > LONGEST_WAIT:
            raise self._refused(f"asks to come back in {wait:.0f} s; what was bought is kept, so run again then")
        if wait is not None:
            self.paused_until = max(self.paused_until, asyncio.get_running_loop().time() + wait)
        return wait

    async def _turn(self) -> None:
        clock = asyncio.get_running_loop().time
        start = max(clock(), self.free_at)
        self.free_at = start + self.interval
        while (wait := max(start, self.paused_until) - clock()) > 0 and not self.stop.is_set():
            await self._pause(wait)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stop.wait()


def backoff(tried: int) -> float:
    """Seconds before the next try: half a second, doubled each time, up to a minute; less up to a quarter."""
    return min(60.0, 0.5 * 2**tried) * (1 - 0.25 * random.random())


def retry_after(header: str | None) -> float | None:
    """Seconds of a Retry-After header (RFC 9110, section 10.2.3: seconds or a date); None where it says nothing."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None


def _choice(reply: Any) -> Any:
    """The first choice of a reply; None for what is no chat completion (the openai package checks no types)."""
    choices = getattr(reply, "choices", None)
    first = choices[0] if isinstance(choices, list) and choices else None
    content = getattr(getattr(first, "message", None), "content", 0)
    return first if content is None or isinstance(content, str) else None


def _passes(error: openai.APIStatusError) -> bool:
    return (error.status_code >= 500 or error.status_code in AGAIN) and error.code != "insufficient_quota"


def _has_no_reply(error: openai.APIStatusError) -> bool:
    """Longer than the context, or of what the server does not speak about: another request may well have a reply."""
    return error.code in NO_REPLY or "maximum context length" in error.message  # vLLM gives no such code
