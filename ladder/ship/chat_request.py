"""Requests for chat completions: the keys of OpenAI's API that a rung can serve. Every other key is refused by name.

https://platform.openai.com/docs/api-reference/chat/create
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from ladder.inference.types import Sampling
from ladder.pipeline.errors import UserError, expectation

Role = Literal["system", "developer", "user", "assistant", "tool"]
MIN_TEMPERATURE = 1e-6
"""Lowest temperature above 0. Below it, a logit divided by the temperature can exceed float32."""
MIN_TOP_P = 1e-9
"""Lowest nucleus. Sampling counts probabilities in units of 2^-30 (ladder/inference/sampling.py): less is no token."""


class Refused(UserError):
    """Request that is not served. `key` is the key of its body that is wrong; None for the body itself.

    `status` is the HTTP status of the reply.
    """

    def __init__(self, key: str | None, sentence: str, status: int = 400) -> None:
        super().__init__(f"{key}: {sentence}" if key else sentence)
        self.key, self.status = key, status


def _joined(content: Any) -> Any:
    """Return the text of a list of text parts; any other value unchanged."""
    if not isinstance(content, list):
        return content
    texts: list[str] = []
    for part in content:
        match part:
            case {"type": "text", "text": str(text)} if len(part) == 2:
                texts.append(text)
            case _:
                raise ValueError("expected a text, or parts of type text")
    return "".join(texts)


class Message(BaseModel):
    """One message; the content is a text or a list of text parts."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Role
    content: Annotated[str, BeforeValidator(_joined)]


class StreamOptions(BaseModel):
    """Options of a stream."""

    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool = False


class ChatRequest(BaseModel):
    """Body of POST /v1/chat/completions."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str
    messages: list[Message] = Field(min_length=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=MIN_TOP_P, le=1)
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise ValueError("max_tokens: given together with max_completion_tokens; expected one of them")
        if self.temperature is not None and 0 < self.temperature < MIN_TEMPERATURE:
            raise ValueError(f"temperature: expected 0 or at least {MIN_TEMPERATURE}, got {self.temperature}")
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options: expected only with stream: true")
        if any(not text for text in self.stops):
            raise ValueError("stop: expected texts with at least one character")
        return self

    @property
    def stops(self) -> Sequence[str]:
        """Stop strings."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def conversation(self) -> list[dict[str, Any]]:
        """Messages for the chat template; `developer` is OpenAI's newer name of `system`."""
        renamed = {"developer": "system"}
        return [{"role": renamed.get(one.role, one.role), "content": one.content} for one in self.messages]

    def sampling(self, max_tokens: int, seed: int) -> Sampling:
        """Return the sampling parameters; OpenAI's defaults are temperature 1 and top_p 1.

        max_tokens: limit of a request without one. seed: seed of a request without one.
        """
        return Sampling(
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            max_new_tokens=self.max_tokens or self.max_completion_tokens or max_tokens,
            seed=seed if self.seed is None else self.seed,
        )


NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0, None),
    "presence_penalty": (0, None),
    "logit_bias": ({}, None),
    "logprobs": (False, None),
    "top_logprobs": (None,),
    "response_format": ({"type": "text"}, None),
    "tools": ([], None),
    "tool_choice": ("none", None),
    "parallel_tool_calls": (None,),
    "store": (False, None),
}
"""Values of keys that are not served, with which they ask for nothing. Clients send some of them always."""


def read_request(body: Any) -> ChatRequest:
    """Check the body of a request. Errors: Refused, with the key."""
    if not isinstance(body, dict):
        raise Refused(None, f"the body: expected a JSON object, got {type(body).__name__}")
    asked = {key: value for key, value in body.items() if not _is_neutral(key, value)}
    try:
        return ChatRequest.model_validate(asked)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "extra_forbidden":
            raise Refused(_key(first["loc"]), "not served by this server; remove it") from None
        said = expectation(first["msg"])
        if not first["loc"]:
            key, _, said = said.partition(": ")
            raise Refused(key, said) from None
        raise Refused(_key(first["loc"]), said) from None


def _is_neutral(key: str, value: Any) -> bool:
    return any(type(value) is type(one) and value == one for one in NEUTRAL.get(key, ())) or (
        key in ("frequency_penalty", "presence_penalty") and value == 0.0 and not isinstance(value, bool)
    )


def _key(location: tuple[int | str, ...]) -> str:
    """Format a location: messages[0].role."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".").removesuffix(".str").removesuffix(".list[str]")
