"""Replies of an OpenAI-compatible endpoint: so many at once, paced, tried again, within a budget."""

import asyncio
import contextlib
import email.utils
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import openai
from tqdm import tqdm

from ladder.chat import Messages
from ladder.generation import Endpoint
from ladder.replies import EMPTY
from ladder.rows import Row
from ladder.run import Refused
from ladder.sampling import Sampling

LONGEST_WAIT = 600.0
"""Seconds that a server may ask to wait; for more, run again later."""
AGAIN = (408, 409, 429)
"""Statuses below 500 that pass by themselves."""


@dataclass
class Budget:
    """What one run may buy, and what it has bought."""

    requests: int | None = None
    tokens: int | None = None
    """Of prompts and replies. Those under way when it is reached are finished, and paid."""
    requests_bought: int = 0
    tokens_bought: int = 0

    def spent(self) -> str:
        """Which part is used up, in words; empty while neither is."""
        if self.requests is not None and self.requests_bought >= self.requests:
            return f"{self.requests} requests"
        if self.tokens is not None and self.tokens_bought >= self.tokens:
            return f"{self.tokens} tokens"
        return ""


class EndpointReplies:
    """Buys replies of one endpoint. The key comes from OPENAI_API_KEY; it is in nothing that this returns or raises."""

    def __init__(self, endpoint: Endpoint, budget: Budget, requests_per_minute: int | None) -> None:
        self.endpoint, self.budget = endpoint, budget
        self.name = endpoint.model
        self.identity: Row = {"base_url": endpoint.base_url}
        self.caveat: Row = {}
        self.interval = 60 / requests_per_minute if requests_per_minute else 0.0
        self.where = f"endpoint {endpoint.base_url}"
        self.key = os.environ.get("OPENAI_API_KEY", "none")

    def buy(
        self, requests: dict[str, Messages], sampling: Sampling, keep: Callable[[str, Row], None], progress: str
    ) -> None:
        """Ask every request, and `keep` each reply under its request's key as soon as it is there.

        Errors: Refused when the server cannot be reached, refuses a request, or the budget is spent. Requests that
        are under way then are still waited for and kept.
        """
        asyncio.run(self._buy(requests, sampling, keep, progress))

    async def _buy(
        self, requests: dict[str, Messages], sampling: Sampling, keep: Callable[[str, Row], None], progress: str
    ) -> None:
        self.stop, self.free_at, self.paused_until = asyncio.Event(), 0.0, 0.0
        left = iter(requests.items())
        bar = tqdm(total=len(requests), desc=progress, unit="reply", disable=not progress)
        client = openai.AsyncOpenAI(
            base_url=self.endpoint.base_url, api_key=self.key, timeout=self.endpoint.timeout, max_retries=0
        )

        async def work() -> None:
            try:
                for key, messages in left:
                    reply = await self._reply(client, messages, sampling)
                    if reply is None:
                        return
                    keep(key, reply)
                    bar.update()
            except BaseException:
                self.stop.set()  # the others finish what is under way, and begin nothing
                raise

        async with client:
            workers = (work() for _ in range(min(self.endpoint.concurrency, len(requests))))
            ended = await asyncio.gather(*workers, return_exceptions=True)
        bar.close()
        for error in ended:
            if error is not None:
                raise error

    async def _reply(self, client: openai.AsyncOpenAI, messages: Messages, sampling: Sampling) -> Row | None:
        """One reply, or None when another request has met an error meanwhile."""
        for tried in range(self.endpoint.retries + 1):
            await self._turn()
            if self.stop.is_set():
                return None
            self._spend()
            try:
                async with asyncio.timeout(self.endpoint.timeout):  # the client's own timeout starts anew at every byte
                    reply = await client.chat.completions.create(
                        model=self.endpoint.model,
                        messages=messages,  # type: ignore[arg-type]
                        temperature=sampling.temperature,
                        max_tokens=sampling.max_new_tokens,
                        seed=sampling.seed,
                    )
            except openai.APIStatusError as error:
                self.budget.requests_bought -= 1
                if _too_long(error):
                    return EMPTY
                cause = f"answered {error.status_code}: {error.message[:200]}"
                if not _passes(error):
                    raise self._refused(cause) from None
                wait = self._asked_to_wait(error.response.headers.get("retry-after"))
            except (openai.APITimeoutError, TimeoutError):
                cause, wait = f"gave no answer in {self.endpoint.timeout:g} s", None
            except openai.APIConnectionError as error:
                cause, wait = f"cannot be reached: {error.__cause__ or error}", None
            except ValueError as error:
                cause, wait = f"answered with something that is not JSON: {error}", None
            else:
                if getattr(reply, "choices", None):
                    return self._bought(reply)
                cause, wait = "answered without a choice", None
            if wait is None and tried < self.endpoint.retries:
                await self._pause(backoff(tried))
        raise self._refused(cause)

    def _spend(self) -> None:
        if spent := self.budget.spent():
            raise Refused(
                f"judge {self.name}: its budget of {spent} is used up; what was bought is kept, so run again to buy "
                "the rest, or raise the budget"
            )
        self.budget.requests_bought += 1

    def _bought(self, reply: Any) -> Row:
        choice, usage = reply.choices[0], reply.usage
        prompt_tokens, tokens = (usage.prompt_tokens or 0, usage.completion_tokens or 0) if usage else (0, 0)
        self.budget.tokens_bought += prompt_tokens + tokens
        text = self._without_key(choice.message.content or "")
        return {
            "text": text,
            "prompt_tokens": prompt_tokens,
            "tokens": tokens,
            "finished": choice.finish_reason == "stop",
        }

    def _refused(self, cause: str) -> Refused:
        return Refused(self._without_key(f"{self.where} {cause}"))

    def _without_key(self, text: str) -> str:
        return text.replace(self.key, "<OPENAI_API_KEY>") if self.key != "none" else text

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


def _passes(error: openai.APIStatusError) -> bool:
    return (error.status_code >= 500 or error.status_code in AGAIN) and error.code != "insufficient_quota"


def _too_long(error: openai.APIStatusError) -> bool:
    return error.code == "context_length_exceeded" or "maximum context length" in error.message
