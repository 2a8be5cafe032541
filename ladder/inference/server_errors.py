"""Parse and classify server errors by the table in ladder/inference/error_table.py.

    error = read_error(body)              # of an HTTP error or inside HTTP 200; None if there is none
    classify(status, error)               # Kind.CONTEXT

The message is the server's own text. Before display, the caller must mask keys in it and shorten it.
"""

import email.utils
import json
import re
import time
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ladder.inference.error_table import SIGNS, Kind, plain

WORDS = 300
"""Maximum number of characters of a server's message that are shown."""
MESSAGES = ("message", "msg", "detail", "details", "error", "error_description", "status_msg", "reason", "title")
"""Fields that hold an error's message, best first."""
NAMED = ("code", "type", "status", "reason", "error_type", "error_code", "errorCode", "__type", "status_code")
"""Fields that hold an error's name or its HTTP status."""
WITHIN = ("error", "innererror", "inner_error", "metadata", "details", "errors", "base_resp", "cause", "raw", "detail")
"""Fields that hold nested errors: Azure, OpenRouter, Google, Cloudflare, MiniMax, FastAPI."""
DEPTH = 5


@dataclass(frozen=True)
class Fault:
    """Error returned in place of a reply."""

    cause: str
    kind: Kind = Kind.SERVER
    status: int = 0
    """HTTP status; 0 if the server did not answer, or answered 2xx without a chat completion."""
    wait: float = 0.0
    """Seconds that the server asks to wait."""

    @property
    def no_reply(self) -> bool:
        """Whether this request can have no reply, while other requests can."""
        return self.kind in (Kind.CONTEXT, Kind.FILTER)

    @property
    def limited(self) -> bool:
        """Whether the server asks for a lower rate."""
        return self.kind in (Kind.RATE, Kind.OVERLOAD)

    @property
    def of_all(self) -> bool:
        """Whether every request would get this error."""
        return self.kind in (Kind.QUOTA, Kind.KEY, Kind.MODEL, Kind.ADDRESS, Kind.UNREACHABLE)

    @property
    def again(self) -> bool:
        """Whether a retry may succeed."""
        return self.kind in (Kind.SERVER, Kind.UNREACHABLE) or self.limited


@dataclass(frozen=True)
class Error:
    """Parsed error of a server."""

    message: str
    names: frozenset[str] = frozenset()
    """Codes, types and reasons, normalized by `plain`."""
    status: int = 0
    """HTTP status given in the body; 0 if there is none."""
    wait: float = 0.0
    """Seconds of a RetryInfo (Google)."""


def classify(status: int, error: Error) -> Kind:
    """Classify an error by SIGNS. `status` is the HTTP response's; for HTTP 2xx the error's own status is used."""
    status = error.status if 200 <= status < 300 else status
    for sign in SIGNS:
        if sign.statuses and status not in sign.statuses:
            continue
        if sign.names and not sign.names & error.names:
            continue
        if sign.words is None or sign.words.search(error.message):
            return sign.kind
    return Kind.SERVER


def read_error(body: Any) -> Error | None:
    """Find the error in a parsed body; None if there is none. Of a list (Gemini), only the first item is read."""
    if isinstance(body, list):
        body = body[0] if body else None
    if not isinstance(body, dict):
        return None
    feedback = body.get("promptFeedback")
    if isinstance(feedback, dict) and feedback.get("blockReason") and not body.get("choices"):  # Gemini
        return error_of(f"prompt blocked: {feedback['blockReason']}")
    base = body.get("base_resp")  # MiniMax sends it in every reply; status_code is 0 on success
    failed = isinstance(base, dict) and base.get("status_code") not in (None, 0, "0")
    first = body["choices"][0] if isinstance(body.get("choices"), list) and body["choices"] else None
    if isinstance(first, dict) and first.get("error"):  # OpenRouter
        return error_of(first["error"])
    if body.get("error") or body.get("errors") or failed:
        return error_of(body)
    if first is None and (body.get("object") == "error" or any(name in body for name in ("message", "detail", "msg"))):
        return error_of(body)
    return None


def error_of(body: Any) -> Error:
    """Parse any error body: an object of any nesting, a list, a string, HTML."""
    messages, names, status, wait = [], set[str](), 0, 0.0
    for part in _parts(body, DEPTH):
        if isinstance(part, str):
            messages.append(part)
            continue
        for field in NAMED:
            value = part.get(field)
            number = _whole(value)
            if number is not None and 400 <= number < 600:
                status = status or number
            elif isinstance(value, str | int) and not isinstance(value, bool):
                names.add(plain(str(value)))
        messages += [part[field] for field in MESSAGES if isinstance(part.get(field), str)][:1]
        wait = wait or _seconds(part.get("retryDelay"))
    said = list(dict.fromkeys(filter(None, map(readable, messages))))
    return Error("; ".join(said), frozenset(names), status, wait)


def readable(text: str) -> str:
    """Clean up a server's text: one line without HTML, control characters and bidirectional formatting characters."""
    if re.match(r"\s*<(?:!doctype|html|\?xml|head|body)", text, re.IGNORECASE):
        text = re.sub(r"(?is)<(script|style)\b.*?</\1\s*>|<[^>]*>", " ", text)
    text = re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]", " ", text)
    return " ".join("".join(" " if unicodedata.category(one)[0] in "CZ" else one for one in text).split())


def shortened(text: str, most: int = WORDS) -> str:
    """Truncate a text to `most` characters, with an ellipsis."""
    return text if len(text) <= most else f"{text[:most]}…"


def wait_of(headers: Mapping[str, str], error: Error) -> float:
    """Seconds that a server asks to wait: Retry-After, retry-after-ms (OpenAI, Azure), or the value in the body."""
    asked = retry_after(headers.get("retry-after"))
    if asked is None and (exact := retry_after(headers.get("retry-after-ms"))) is not None:
        asked = exact / 1000
    return error.wait if asked is None else asked


def retry_after(header: str | None) -> float | None:
    """Parse a Retry-After header (RFC 9110, section 10.2.3: seconds or a date) into seconds; None if it is invalid."""
    if header is None:
        return None
    try:
        seconds = float(header)
        return max(0.0, seconds) if seconds < float("inf") else None  # NaN fails the comparison
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _parts(body: Any, depth: int) -> Iterator[dict[str, Any] | str]:
    """Yield the objects and strings of an error body, outermost first."""
    if isinstance(body, str):
        if depth < DEPTH and body.lstrip().startswith("{"):  # another server's error, passed on as a JSON string
            try:
                yield from _parts(json.loads(body), depth - 1)
                return
            except (ValueError, RecursionError):
                pass
        yield body
    elif isinstance(body, list) and depth:
        for one in body[:3]:
            yield from _parts(one, depth - 1)
    elif isinstance(body, dict):
        inner = [body[name] for name in WITHIN if isinstance(body.get(name), dict | list)]
        inner += [body["raw"]] if isinstance(body.get("raw"), str) else []
        if isinstance(body.get("loc"), list):  # FastAPI: show the field and its problem, but not its value
            yield {"message": f"{'.'.join(map(str, body['loc']))}: {body.get('msg', '')}"}
            return
        yield body
        for one in inner if depth else ():
            yield from _parts(one, depth - 1)


def _whole(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return int(value) if isinstance(value, int) or re.fullmatch(r"[0-9]{1,6}", value) else None


def _seconds(value: Any) -> float:
    """Parse a duration such as `34s` or `1.5s` (Google's RetryInfo) into seconds; 0 if it is no duration."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]+)?)s", value) if isinstance(value, str) else None
    return float(found[1]) if found else 0.0
