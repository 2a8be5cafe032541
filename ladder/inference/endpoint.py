"""An OpenAI-compatible endpoint as params.yaml names it: where it is, what it costs, what may be bought of it."""

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
"""Fields of a request that no endpoint sets: what is asked decides them, or the client could not read the reply."""


class Prices(Config):
    prompt: float = Field(ge=0)
    """Money for a million tokens of prompts."""
    completion: float = Field(ge=0)
    """Money for a million tokens of replies."""


class Endpoint(Config):
    base_url: str
    """Where the server answers: `http://localhost:8000/v1`. Redirects are not followed."""
    model: str
    """The model's name there. Replies are kept by it, whatever the address: give other weights another name."""
    key_env: str | None = Field(default=None, exclude=True)
    """The environment variable that holds the key of this server. It is sent to the host of `base_url` and to no other.
    Unset, OPENAI_API_KEY is sent to OpenAI and to a server on this machine; any other server is asked without a key."""
    insecure: bool = Field(default=False, exclude=True)
    """Allow http, which encrypts neither prompts nor the key, to another machine."""
    concurrency: int = Field(default=64, ge=1)
    """Requests under way at once."""
    timeout: float = Field(default=120.0, gt=0)
    """Seconds until a request is tried again."""
    retries: int = Field(default=6, ge=0)
    """How often a request that met 408, 409, 5xx, a timeout or a lost connection is tried again, with backoff; and
    once more when all others are done. An empty answer is asked for again twice at most."""
    patience: float = Field(default=600.0, ge=0)
    """Seconds in which a server may say that it is busy (429, 503) and nothing else, or ask to wait; then the run
    stops. Never less than `timeout`."""
    most_failed: float = Field(default=0.01, ge=0, le=1)
    """The share of a run's requests that may fail for good, each as a row without a reply: the request was refused
    (400), met faults in all tries, or wrote no JSON object of its schema. With more the run stops."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    """The server's rate limit, kept from the start; its Retry-After is obeyed in any case."""
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The field in which the server takes the longest reply; OpenAI's reasoning models take the second alone."""
    extra: dict[str, Any] = {}
    """More fields of every request: `{reasoning_effort: low}`, `{chat_template_kwargs: {enable_thinking: false}}`. A
    reply is kept by them too. null leaves one out that is sent else: `{temperature: null, top_p: null}`."""
    prices: Prices | None = None
    """What tokens cost there, in any currency; the progress bar shows the sum, and a budget in money is kept by it."""

    @field_validator("base_url")
    @classmethod
    def without_secrets(cls, base_url: str) -> str:
        # A secret is refused by a UserError: the sentence made of pydantic's ValueError would show it.
        try:
            address = urlsplit(base_url)
            secret = address.username or address.password or address.query or address.fragment
            host, _ = address.hostname, address.port
        except ValueError as error:
            raise UserError(f"endpoint.base_url: not an address: {error}") from None
        if secret or holds_secret(base_url):
            raise UserError(
                "endpoint.base_url: holds a user, password, query or key; name the environment variable of the key in "
                "endpoint.key_env"
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
                "endpoint.key_env: expected the name of an environment variable, such as OPENROUTER_API_KEY, not a key"
            )
        return key_env

    @field_validator("extra")
    @classmethod
    def of_no_other(cls, extra: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted(OURS & extra.keys()):
            raise ValueError(
                f"{taken[0]} is set by what is asked; expected other fields than {', '.join(sorted(OURS))}"
            )
        for path in secrets_in(extra):
            raise UserError(
                f"endpoint.extra.{path}: a secret; expected none. Name the environment variable of a key in "
                "endpoint.key_env"
            )
        try:
            json.dumps(extra, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"expected values of JSON: {error}") from None
        return extra

    @model_validator(mode="after")
    def is_encrypted(self) -> Self:
        if self.base_url.startswith("http:") and not self.is_local and not self.insecure:
            raise ValueError(
                f"base_url: http sends prompts and key unencrypted to {self.host}; use https, or allow it by "
                "`insecure: true`"
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
        """The environment variable whose key this server is sent; None for a server that is asked without."""
        openai = self.host == "api.openai.com" or self.host.endswith(".api.openai.com")
        return self.key_env or ("OPENAI_API_KEY" if openai or self.is_local else None)

    def __hash__(self) -> int:  # the fields' own would fail on a dict
        return hash(self.model_dump_json())


class Budget(Config):
    """What one run may buy of an endpoint; then it stops, what was bought is kept, and a further run goes on."""

    requests: int | None = Field(default=None, ge=1)
    tokens: int | None = Field(default=None, ge=1)
    """Of prompts and replies. Requests under way when it is reached are finished, and paid."""
    money: float | None = Field(default=None, gt=0)
    """In the currency of the endpoint's prices; requests under way as above."""

    def check(self, endpoint: Endpoint | None) -> None:
        """Errors: ValueError where there is no such endpoint, or none with prices, to keep the budget by."""
        if endpoint is None and self != UNBOUNDED:
            raise ValueError("budget is of an endpoint, and there is none")
        if self.money is not None and endpoint and endpoint.prices is None:
            raise ValueError("budget.money needs endpoint.prices: {prompt, completion}, money for a million tokens")


UNBOUNDED = Budget()


def served_by(endpoint: Endpoint | None) -> dict[str, str]:
    """{"model": its name as served}, for rows and metrics to tell; empty for a rung, whose hash dvc.lock has."""
    return {"model": endpoint.model} if endpoint else {}


@dataclass
class Bought:
    """What this process has bought of an endpoint."""

    requests: int = 0
    prompt_tokens: int = 0
    tokens: int = 0
    """Of replies."""

    def cost(self, prices: Prices) -> float:
        """In the currency of the prices."""
        return (self.prompt_tokens * prices.prompt + self.tokens * prices.completion) / 1e6
