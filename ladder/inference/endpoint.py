"""Configuration of an OpenAI-compatible endpoint in params.yaml: address, prices and spending limits."""

import ipaddress
import json
import re
from dataclasses import dataclass
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from ladder.pipeline.secrets import holds_secret, secrets_in
from ladder.pipeline.stage import Config, UserError

OURS = frozenset({"model", "messages", "max_tokens", "max_completion_tokens", "seed", "response_format", "n", "stream"})
"""Request fields that `extra` must not set: the request determines them, or the client could not read the reply."""


class Prices(Config):
    prompt: float = Field(ge=0)
    """Price of a million prompt tokens."""
    completion: float = Field(ge=0)
    """Price of a million reply tokens."""


class Endpoint(Config):
    base_url: str
    """Base URL of the server: `http://localhost:8000/v1`. Redirects are not followed."""
    model: str
    """Model name on the server. Replies are cached by this name, not by address: give other weights another name."""
    key_env: str | None = Field(default=None, exclude=True)
    """Environment variable that holds the API key. The key is sent only to the host of `base_url`. If unset,
    OPENAI_API_KEY is sent to OpenAI and to a server on this machine; other servers get no key."""
    insecure: bool = Field(default=False, exclude=True)
    """Allow http to another machine, although it encrypts neither prompts nor the key."""
    concurrency: int = Field(default=64, ge=1)
    """Maximum number of requests in flight."""
    timeout: float = Field(default=120.0, gt=0)
    """Timeout of one try, in seconds."""
    retries: int = Field(default=6, ge=0)
    """Maximum number of retries, with backoff, after 408, 409, 5xx, a timeout or a lost connection. One more try
    follows when all other requests are done. An empty answer is retried at most twice."""
    patience: float = Field(default=600.0, ge=0)
    """Seconds for which a server may answer only that it is busy (429, 503), or ask to wait, before the run stops. At
    least `timeout` is used."""
    max_failed: float = Field(default=0.01, ge=0, le=1)
    """Maximum share of a run's requests that may fail for good; above it the run stops. A failed request leaves its row
    without a reply: it was refused (400), every try failed, or the reply is no JSON object of its schema."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    """Rate limit of the server, obeyed from the start. Retry-After is obeyed in any case."""
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """Request field for the maximum reply length. OpenAI's reasoning models accept only `max_completion_tokens`."""
    extra: dict[str, Any] = {}
    """More request fields: `{reasoning_effort: low}`, `{chat_template_kwargs: {enable_thinking: false}}`. They are part
    of a reply's cache key. null omits a default field: `{temperature: null, top_p: null}`."""
    prices: Prices | None = None
    """Token prices in any currency. The progress bar shows the cost, and `budget.money` requires them."""

    @field_validator("base_url")
    @classmethod
    def without_secrets(cls, base_url: str) -> str:
        # Raise UserError for a secret: pydantic's message for a ValueError would show the value.
        try:
            address = urlsplit(base_url)
            secret = address.username or address.password or address.query or address.fragment
            host, _ = address.hostname, address.port
        except ValueError as error:
            raise UserError(f"endpoint.base_url: not an address: {error}") from None
        if secret or holds_secret(base_url):
            raise UserError(
                "endpoint.base_url: has a user, password, query or key; expected none. Name the environment variable "
                "of the key in endpoint.key_env."
            )
        if address.scheme not in ("http", "https") or not host or re.search(r"[\s\x00-\x1f]", base_url):
            raise ValueError("expected http://HOST/v1 or https://HOST/v1")
        if address.path.rstrip("/").endswith(("/chat/completions", "/completions")):
            raise ValueError("expected the address before /chat/completions")
        return base_url

    @field_validator("key_env")
    @classmethod
    def is_a_name(cls, key_env: str | None) -> str | None:
        if key_env is not None and (not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key_env) or holds_secret(key_env)):
            raise UserError(
                "endpoint.key_env: expected the name of an environment variable such as OPENROUTER_API_KEY, not a key"
            )
        return key_env

    @field_validator("extra")
    @classmethod
    def of_no_other(cls, extra: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted(OURS & extra.keys()):
            raise ValueError(f"{taken[0]}: set by the request; expected fields other than {', '.join(sorted(OURS))}")
        for path in secrets_in(extra):
            raise UserError(
                f"endpoint.extra.{path}: a secret; expected none. Name the environment variable of a key in "
                "endpoint.key_env"
            )
        try:
            json.dumps(extra, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"expected JSON values: {error}") from None
        return extra

    @model_validator(mode="after")
    def is_encrypted(self) -> Self:
        if self.base_url.startswith("http:") and not self.is_local and not self.insecure:
            raise ValueError(
                f"base_url: http sends prompts and key unencrypted to {self.host}. Use https, or set `insecure: true`."
            )
        return self

    @property
    def host(self) -> str:
        return (urlsplit(self.base_url).hostname or "").rstrip(".")

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine: localhost, 127.0.0.0/8, ::1."""
        try:
            address = ipaddress.ip_address(self.host)
        except ValueError:
            return self.host == "localhost" or self.host.endswith(".localhost")
        mapped = getattr(address, "ipv4_mapped", None)
        return address.is_loopback or address.is_unspecified or bool(mapped and mapped.is_loopback)

    @property
    def key_name(self) -> str | None:
        """Environment variable of the key that is sent to this server; None if no key is sent."""
        openai = self.host == "api.openai.com" or self.host.endswith(".api.openai.com")
        return self.key_env or ("OPENAI_API_KEY" if openai or self.is_local else None)

    def __hash__(self) -> int:  # the generated hash would fail on the dict `extra`
        return hash(self.model_dump_json())


class Budget(Config):
    """What one run may buy of an endpoint; then it stops, what was bought is kept, and a further run goes on."""

    requests: int | None = Field(default=None, ge=1)
    """Maximum number of requests."""
    tokens: int | None = Field(default=None, ge=1)
    """Maximum tokens of prompts and replies. Requests in flight when it is reached are finished, and paid for."""
    money: float | None = Field(default=None, gt=0)
    """Maximum cost in the currency of the endpoint's prices. Requests in flight are finished, and paid for."""

    def check(self, endpoint: Endpoint | None) -> None:
        """Check that the budget can be enforced at `endpoint`.

        Errors: ValueError for a budget without an endpoint, or a budget in money without the endpoint's prices.
        """
        if endpoint is None and self != UNBOUNDED:
            raise ValueError("budget: no effect without an endpoint. Omit it.")
        if self.money is not None and endpoint and endpoint.prices is None:
            raise ValueError("budget.money: needs endpoint.prices: {prompt, completion}, in money per million tokens")


UNBOUNDED = Budget()


def served_by(endpoint: Endpoint | None) -> dict[str, str]:
    """Return {"model": name on the server} for rows and metrics; {} for a rung, whose hash is in dvc.lock."""
    return {"model": endpoint.model} if endpoint else {}


@dataclass
class Bought:
    """Requests and tokens that this process has bought from an endpoint."""

    requests: int = 0
    prompt_tokens: int = 0
    tokens: int = 0
    """Reply tokens."""

    def cost(self, prices: Prices) -> float:
        """Cost in the currency of the prices."""
        return (self.prompt_tokens * prices.prompt + self.tokens * prices.completion) / 1e6
