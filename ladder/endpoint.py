"""An OpenAI-compatible endpoint as params.yaml names it: where it is, what it costs, what may be bought of it."""

from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from ladder.run import Refused, Section

OURS = frozenset({"model", "messages", "max_tokens", "max_completion_tokens", "seed", "response_format", "n", "stream"})
"""Fields of a request that no endpoint sets: what is asked decides them, or the client could not read the reply."""


class Prices(Section):
    prompt: float = Field(ge=0)
    """Money for a million tokens of prompts."""
    completion: float = Field(ge=0)
    """Money for a million tokens of replies."""


class Endpoint(Section):
    base_url: str
    """Where the server answers: `http://localhost:8000/v1`. The key comes from OPENAI_API_KEY, never from here."""
    model: str
    """The model's name there. Replies are kept by it, whatever the address: give other weights another name."""
    concurrency: int = Field(default=64, ge=1)
    """Requests under way at once."""
    timeout: float = Field(default=120.0, gt=0)
    """Seconds until a request is tried again."""
    retries: int = Field(default=6, ge=0)
    """How often a request that met 408, 409, 5xx, a timeout or a lost connection is tried again, with backoff; and
    once more when all others are done."""
    patience: float = Field(default=600.0, ge=0)
    """Seconds in which a server may say 429 and nothing else, or ask to wait; then the run stops. Never less than
    `timeout`."""
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
        address = urlsplit(base_url)
        if address.username or address.password or address.query:
            # Not a ValueError: pydantic's would carry the address, and the sentence made of it would show it.
            raise Refused("endpoint.base_url: holds a user, password or query; a key comes from OPENAI_API_KEY")
        return base_url

    @field_validator("extra")
    @classmethod
    def of_no_other(cls, extra: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted(OURS & extra.keys()):
            raise ValueError(
                f"{taken[0]} is set by what is asked; expected other fields than {', '.join(sorted(OURS))}"
            )
        return extra

    def __hash__(self) -> int:  # the fields' own would fail on a dict
        return hash(self.model_dump_json())


class Budget(Section):
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
