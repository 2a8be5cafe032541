"""Replies bought of an OpenAI-compatible endpoint: paced, tried again, within a budget.

A 429 is no failure of a request: it is sent again until the server has said nothing else for `patience` seconds. Any
other fault is one of its `retries`. A request that has no more of them is left until all others are done, has one last
try, and then has no reply. The others go on, until more than the share `most_failed` have none; what no request would
pass (a wrong key, no such model, no server) stops all at once.
"""

import asyncio
import email.utils
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import openai
from tqdm import tqdm

from ladder.endpoint import Bought, Budget, Endpoint
from ladder.faults import Fault
from ladder.pacing import Pace, backoff
from ladder.rows import Row
from ladder.run import Refused

NOT_TAKEN = (400, 413, 422)
"""Statuses that are of one request, and come again."""
AGAIN = (408, 409)
"""Statuses below 500 that pass by themselves, as 429 does."""
NO_REPLY = ("context_length_exceeded", "content_filter", "content_policy_violation")
"""Codes of a request that has no reply, whoever asks and however often."""
TOO_LONG = ("maximum context length", "Request too large")
"""Words of the same that has another code."""
PLACEHOLDER = 16
"""A key shorter than this is one of a local server (`EMPTY`, `token-abc`), and may stand in a text by chance."""
LOOK = 0.05
"""Seconds until it is looked again whether a budget is used up."""
ROUNDING = 1e-9
"""A share of so many requests may be a hair below a whole number."""


class Buyer:
    """Buys replies of one endpoint. The key comes from OPENAI_API_KEY; it is in nothing that this returns or raises."""

    def __init__(self, endpoint: Endpoint, budget: Budget) -> None:
        try:
            budget.check(endpoint)
        except ValueError as error:
            raise Refused(str(error)) from None
        self.endpoint, self.budget, self.bought = endpoint, budget, Bought()
        self.pace = Pace(endpoint)
        self.where = f"endpoint {endpoint.base_url}"
        self.key = os.environ.get("OPENAI_API_KEY") or "none"
        self.takes_formats = True
        self.wanted = self.failed = 0
        """Requests whose replies were asked for, bought before or not; of them, those that failed for good."""
        self.last_failure = ""

    def buy(self, bodies: dict[str, Row], keep: Callable[[str, Row], None], bar: "tqdm[None]") -> None:
        """Send every body, and `keep` each reply under its key as soon as it is there; a request without one is left.

        Errors: Refused when the server cannot be reached, refuses all requests or too many, or the budget is spent.
        Requests that are under way then are still waited for and kept.
        """
        asyncio.run(self._buy(bodies, keep, bar))

    def fail(self, cause: str) -> None:
        """Count a request that has failed for good. Errors: Refused where these are more than the endpoint's share."""
        self.failed += 1
        self.last_failure = self._without_key(cause)
        share = self.endpoint.most_failed
        if self.failed > share * self.wanted + ROUNDING:
            raise self._refused(
                f"{cause}; {self.failed} of {self.wanted} requests failed, more than endpoint.most_failed: {share:g} "
                "of them; what was bought is kept: run again for the others, or raise it"
            )

    async def _buy(self, bodies: dict[str, Row], keep: Callable[[str, Row], None], bar: "tqdm[None]") -> None:
        self.pace.begin()
        client = openai.AsyncOpenAI(
            base_url=self.endpoint.base_url, api_key=self.key, timeout=self.endpoint.timeout, max_retries=0
        )

        async def work(left: Iterator[tuple[str, Row]], retries: int, again: dict[str, Row]) -> None:
            try:
                for key, body in left:
                    if self.pace.stop.is_set():
                        return
                    reply = await self._reply(client, body, retries)
                    if isinstance(reply, Fault):
                        self.fail(reply.cause)
                        if reply.again:
                            again[key] = body
                            continue
                    elif reply is not None:
                        keep(key, reply)
                        self._check_usage(reply)
                    bar.set_postfix_str(self.spending(), refresh=False)
                    bar.update()
            except BaseException:
                self.pace.end()  # the others finish what is under way, and begin nothing
                raise

        async def all_of(bodies: dict[str, Row], retries: int) -> dict[str, Row]:
            left, again = iter(bodies.items()), dict[str, Row]()
            workers = (work(left, retries, again) for _ in range(min(self.endpoint.concurrency, len(bodies))))
            for error in await asyncio.gather(*workers, return_exceptions=True):
                if error is not None:
                    raise error
            return again

        async with client:
            again = await all_of(bodies, self.endpoint.retries)
            self.failed -= len(again)  # a server that was down for a while is no reason to go without them
            bar.update(len(await all_of(again, 0)))

    async def _reply(self, client: openai.AsyncOpenAI, body: Row, retries: int) -> Row | Fault | None:
        """One reply, or the last try's fault; None where the request has no reply, or all was stopped meanwhile."""
        bare = {name: body[name] for name in body if name != "response_format"}
        form, tried = body, 0
        unformed: Fault | None = None
        while (sent := await self.pace.turn()) is not None:
            if self.bought.requests == self.budget.requests and self.pace.under_way > 1:
                self.pace.landed()
                await self.pace.pause(LOOK)  # of those under way one may meet a 429, which costs nothing
                continue
            form = form if self.takes_formats else bare
            try:
                found = await self._sent(client, form)
            finally:
                self.pace.landed()
            if not isinstance(found, Fault):
                if unformed and self.takes_formats:
                    self._drop_formats(unformed)
                return found
            if found.status == 429 and found.again:
                self._check_patience(found)
                self.pace.busy(sent, found.wait)
                continue
            self.pace.heard(reply=False)
            if found.status in (400, 422) and form is not bare and "response_format" in form:
                form, unformed = bare, found  # it may be the schema that is not taken
                continue
            if tried == retries or not found.again:
                if found.of_all:
                    raise self._refused(found.cause)
                return found
            self.pace.hold(found.wait)
            await self.pace.pause(backoff(tried))
            tried += 1
        return None

    async def _sent(self, client: openai.AsyncOpenAI, form: Row) -> Row | Fault | None:
        """What one request brings: a reply, a fault, or None where it can have no reply."""
        self._spend()
        ours = {name: form[name] for name in form if name not in ("model", "messages")}
        try:
            async with asyncio.timeout(self.endpoint.timeout):  # the client's own timeout starts anew at every byte
                reply: Any = await client.chat.completions.create(
                    model=form["model"], messages=form["messages"], extra_body=ours
                )
        except openai.APIStatusError as error:
            self.bought.requests -= 1
            if _has_no_reply(error):
                self.pace.heard(reply=False)
                return None
            return self._fault(error)
        except (openai.APITimeoutError, TimeoutError):
            return Fault(f"gave no answer in {self.endpoint.timeout:g} s")
        except openai.APIConnectionError as error:
            unreachable = type(error.__cause__).__name__ == "ConnectError"  # of the HTTP library that openai has
            return Fault(f"cannot be reached: {error.__cause__ or error}", of_all=unreachable)
        except UnicodeEncodeError:
            self.bought.requests -= 1
            return Fault("cannot be asked this: half a surrogate pair in a text", again=False)
        except ValueError as error:
            return Fault(f"answered with something that is not JSON: {error}")
        choice = _choice(reply)
        if choice is None:
            return Fault("answered without a choice")
        self.pace.heard(reply=True)
        return self._counted(choice, reply.usage)

    def _fault(self, error: openai.APIStatusError) -> Fault:
        status = error.status_code
        cause = f"answered {status}: {self._without_key(error.message)[:200]}"
        if status in NOT_TAKEN:
            return Fault(cause, status, again=False)
        if error.code == "insufficient_quota" or not (status >= 500 or status in AGAIN or status == 429):
            return Fault(cause, status, of_all=True, again=False)
        wait = retry_after(error.response.headers.get("retry-after")) or 0.0
        if wait > self._patience():
            raise self._refused(f"asks to come back in {wait:.0f} s; what was bought is kept, so run again then")
        return Fault(cause, status, wait=wait)

    def _patience(self) -> float:
        """No less than a reply that is under way may take."""
        return max(self.endpoint.patience, self.endpoint.timeout)

    def _check_patience(self, fault: Fault) -> None:
        if (silent := self.pace.silent()) > self._patience():
            raise self._refused(
                f"{fault.cause}; for {silent:.0f} s nothing else; what was bought is kept, so run again later"
            )

    def spending(self) -> str:
        """What was bought so far, in money where prices are known, else in tokens; and how many the server lets be
        under way, where these are fewer than they might be."""
        slowed = f", {int(self.pace.room)} at once" if self.pace.room < self.pace.most else ""
        if self.endpoint.prices:
            return f"cost {self.bought.cost(self.endpoint.prices):.4f}{slowed}"
        return f"{self.bought.prompt_tokens} + {self.bought.tokens} tokens{slowed}"

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

    def _drop_formats(self, fault: Fault) -> None:
        self.takes_formats = False
        said = fault.cause.partition(": ")[2][:100]
        print(
            f"{self.where} answered {fault.status} to a JSON schema ({said}): it is asked without one from now on, and "
            "what it writes is checked",
            file=sys.stderr,
            flush=True,
        )

    def _refused(self, cause: str) -> Refused:
        return Refused(self._without_key(f"{self.where} {cause}"))

    def _without_key(self, text: str) -> str:
        return text.replace(self.key, "<OPENAI_API_KEY>") if len(self.key) >= PLACEHOLDER else text


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


def _has_no_reply(error: openai.APIStatusError) -> bool:
    """Longer than the context, or of what the server does not speak about: another request may well have a reply."""
    # vLLM gives no such code; OpenAI answers 429 where one request alone takes more tokens than a minute may have.
    return error.code in NO_REPLY or any(words in error.message for words in TOO_LONG)
