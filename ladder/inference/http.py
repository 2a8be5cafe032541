"""Send one request to an OpenAI-compatible endpoint and parse the response into a completion or a classified fault.

The key is sent only to the endpoint's host: redirects are not followed, and a local server is not contacted through a
proxy.
"""

import asyncio
import json
import os
import re
from types import TracebackType
from typing import Any, Self

import httpx

from ladder.data.jsonl import Row
from ladder.inference.api_keys import Key
from ladder.inference.completions import Completion, Finish, read_completion
from ladder.inference.endpoint import Endpoint
from ladder.inference.error_table import Kind
from ladder.inference.server_errors import Error, Fault, classify, error_of, read_error, readable, shortened, wait_of
from ladder.pipeline.stage import UserError

OPENAI_HEADERS = {"OPENAI_ORG_ID": "OpenAI-Organization", "OPENAI_PROJECT_ID": "OpenAI-Project"}
"""Headers that select the paying account, by environment variable; sent only to OpenAI."""


LARGEST_BODY = 64 << 20
"""Maximum response size in bytes, decompressed: about 100 times a model's longest reply."""


class Sender:
    """HTTP client of one endpoint; use it within `async with`."""

    def __init__(self, endpoint: Endpoint, key: Key) -> None:
        self.endpoint, self.key = endpoint, key
        self.url = f"{endpoint.base_url.rstrip('/')}/chat/completions"
        headers = {"Content-Type": "application/json", "Accept": "application/json", **key.header()}
        if endpoint.host.endswith("api.openai.com"):
            for name, header in OPENAI_HEADERS.items():
                if re.fullmatch(r"[!-~]+", value := os.environ.get(name, "").strip()):
                    headers[header] = value
        try:
            self.http = httpx.AsyncClient(
                headers=headers,
                timeout=httpx.Timeout(endpoint.timeout, pool=None),
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
                follow_redirects=False,
                trust_env=not endpoint.is_local,
            )
        except (ImportError, ValueError) as error:  # a SOCKS proxy without its package, or an invalid address
            raise UserError(
                f"HTTPS_PROXY or a similar variable: not a usable proxy: {self._words(str(error))}"
            ) from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.http.aclose()

    async def send(self, form: Row) -> Completion | Fault:
        """Send one request and parse its response."""
        try:
            content = json.dumps(form, ensure_ascii=False, allow_nan=False).encode()
        except UnicodeEncodeError:
            return Fault("cannot encode the request: an unpaired surrogate in a text", Kind.REQUEST)
        try:
            async with asyncio.timeout(self.endpoint.timeout):  # httpx restarts its own timeout at every byte
                async with self.http.stream("POST", self.url, content=content) as response:
                    body = await _read_body(response)
        except (httpx.TimeoutException, TimeoutError):
            return Fault(f"no answer within {self.endpoint.timeout:g} s")
        except httpx.ConnectError as error:
            return Fault(f"cannot be reached: {self._words(str(error))}", Kind.UNREACHABLE)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Fault(f"cannot be reached: {self._words(str(error) or type(error).__name__)}")
        if body is None:
            return Fault(f"answered {response.status_code} with more than {LARGEST_BODY} bytes")
        return self._read(response, body, form.get(self.endpoint.limit))

    def _read(self, response: httpx.Response, content: bytes, limit: Any) -> Completion | Fault:
        if response.is_redirect:
            place = self._words(response.headers.get("location", "nowhere"))
            cause = f"answered {response.status_code}: redirects to {place}; expected an answer. Change base_url"
            return Fault(cause, Kind.ADDRESS, response.status_code)
        try:
            body = json.loads(content)
            if response.is_success:
                error = read_error(body)
                found = self._completion(body, limit) if error is None else None
                return found or self._fault(response, error or Error(""), "answered without a choice")
            return self._fault(response, error_of(body), "no message")
        except (ValueError, RecursionError):
            text = content.decode(errors="replace")
        if response.is_success:
            return self._fault(response, _streamed(text) or error_of(text), "an empty body", parsed=False)
        return self._fault(response, error_of(text), response.reason_phrase or "no message")

    def _completion(self, body: Any, limit: Any) -> Completion | Fault | None:
        """Return the completion in a body, or the fault if its finish reason is an error; None if there is none."""
        completion = read_completion(body, limit if isinstance(limit, int) else None)
        if completion is None:
            return None
        cause = f"answered with finish_reason {self._words(completion.reason)!r}"
        if completion.finish == Finish.ERROR:
            return Fault(cause, Kind.OVERLOAD if "resource" in completion.reason else Kind.SERVER)
        return completion

    def _fault(self, response: httpx.Response, error: Error, otherwise: str, *, parsed: bool = True) -> Fault:
        status, words = response.status_code, self._words(error.message)
        if not response.is_success:
            cause = f"answered {status}: {words or otherwise}"
        elif not parsed:
            cause = f"answered with something that is not JSON: {words or otherwise}"
        elif words or error.names or error.status:
            code = f" {error.status}" if error.status else ""
            cause = f"answered {status} with error{code}: {words or 'no message'}"
        else:
            cause = otherwise
        wait = wait_of(response.headers, error)
        return Fault(cause, classify(status, error), 0 if response.is_success else status, wait)

    def _words(self, text: str) -> str:
        """Clean up a server's message for display: one line, keys masked, shortened."""
        return shortened(self.key.masked(readable(text)))


async def _read_body(response: httpx.Response) -> bytes | None:
    """Read a response's body; return None if it exceeds LARGEST_BODY, and stop reading there."""
    body = bytearray()
    async for part in response.aiter_bytes():
        body += part
        if len(body) > LARGEST_BODY:
            return None
    return bytes(body)


def _streamed(text: str) -> Error | None:
    """Find the error in an event stream (`data: {…}`), which was not requested; None if the text is no stream."""
    lines = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith(("data:", "error:"))]
    for line in lines:
        try:
            found = read_error(json.loads(line))
        except (ValueError, RecursionError):
            continue
        if found is not None:
            return found
    return Error("a stream of events, which was not requested") if lines else None
