"""Parse chat completions in the dialects of common servers: text, reasoning, finish reason and token usage.

    completion = read_completion(body, limit=512)      # None if the body is not a chat completion

`text` is the answer. Reasoning that a server returns separately (in a message field, or as parts of its content) is in
`reasoning`. Reasoning inside the text (`<think>`) stays there; the reader of the text must strip it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Finish(StrEnum):
    """Why a reply ended, in OpenAI's terms."""

    STOP = "stop"
    LENGTH = "length"
    FILTER = "content_filter"
    TOOLS = "tool_calls"
    ERROR = "error"
    """The server failed: there is no reply."""
    MISSING = "missing"
    OTHER = "other"
    """A reason that is not in REASONS. The reply counts as unfinished, and the run reports the reason."""


REASONS: dict[Finish, tuple[str, ...]] = {
    Finish.STOP: (
        "stop",  # OpenAI, vLLM, SGLang, llama.cpp, most others
        "eos eos_token stop_sequence stop_token",  # TGI, Together, Anthropic
        "end_turn pause_turn",  # Anthropic, Bedrock
        "complete",  # Cohere
        "finished done end completed success normal stopped eod eot",
    ),
    Finish.LENGTH: (
        "length",  # OpenAI and most others
        "max_tokens max_output_tokens max_new_tokens max_completion_tokens",  # Gemini, Anthropic, Bedrock, Cohere
        "model_length",  # Mistral
        "model_context_window_exceeded context_window_exceeded context_length",  # Anthropic
        "error_limit max_length token_limit length_limit truncated",
    ),
    Finish.FILTER: (
        "content_filter content_filtered",  # OpenAI, Azure, Bedrock
        "safety recitation blocklist prohibited_content spii language model_armor",  # Gemini
        "refusal",  # Anthropic
        "sensitive",  # Zhipu
        "error_toxic guardrail_intervened guardrails moderation flagged risk blocked",
    ),
    Finish.TOOLS: ("tool_calls tool_call tool_use function_call",),
    Finish.ERROR: (
        "error",  # OpenRouter, Mistral, SGLang
        "network_error",  # Zhipu
        "insufficient_system_resource",  # DeepSeek
        "abort aborted cancelled canceled cancel timeout engine_error generation_failed internal_error",  # vLLM, SGLang
    ),
}
FINISHES = {name: finish for finish, lines in REASONS.items() for line in lines for name in line.split()}
REASONING = ("reasoning_content", "reasoning", "reasoning_details", "thinking", "thinking_blocks", "reasoning_text")
"""Message fields that hold reasoning. Some servers fill several, so the first non-empty one is used. In this order:
DeepSeek, vLLM, SGLang, llama.cpp; OpenRouter, Groq, newer vLLM; OpenRouter; Ollama; LiteLLM; GitHub Copilot."""
THOUGHTS = ("thinking", "reasoning", "reasoning_text", "summary_text", "reasoning.text", "reasoning.summary", "thought")
"""Types of content parts that hold reasoning: Mistral, Anthropic; OpenAI; OpenRouter."""
MOST = 2**53
"""Upper bound on a plausible token count."""


@dataclass(frozen=True)
class Completion:
    """A parsed reply."""

    text: str
    reasoning: str
    finish: Finish
    reason: str
    """The server's own word for `finish`."""
    prompt_tokens: int
    tokens: int
    finished: bool
    """Whether the answer is complete: it has text and was not truncated."""


def read_completion(body: Any, limit: int | None = None) -> Completion | None:
    """Parse a JSON body; return None if it is not a chat completion. `limit` is the requested maximum in tokens.

    A reply without a finish reason (null or missing) is finished if it has text and is shorter than `limit`.
    """
    if isinstance(body, list):
        body = body[0] if len(body) == 1 else None
    choices = body.get("choices") if isinstance(body, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        return None
    reason = _reason(choice)
    message = next((choice[name] for name in ("message", "delta") if isinstance(choice.get(name), dict)), None)
    if message is None:
        message = {"content": choice["text"]} if isinstance(choice.get("text"), str) else {}
    if not reason and not message.keys() & {"content", "refusal", *REASONING}:  # Gemini may send only a reason
        return None
    if isinstance(message.get("content"), int | float):  # includes true and false
        return None
    text, thought = _content(message.get("content"))
    if not text and isinstance(message.get("refusal"), str):
        text = message["refusal"]  # OpenAI: the refusal text is the model's answer
    apart = next(filter(None, ("".join(_texts(message.get(name))) for name in REASONING)), "")
    prompt_tokens, tokens = read_usage(body.get("usage"))
    finish = normalized(reason)
    whole = finish == Finish.STOP or (finish == Finish.MISSING and not (limit and tokens >= limit))
    return Completion(text, apart or thought, finish, reason, prompt_tokens, tokens, whole and bool(text.strip()))


def normalized(reason: str) -> Finish:
    """Map a server's finish reason to OpenAI's terms, ignoring case, separators and prefix.

    `FinishReason.MAX_TOKENS`, `FINISH_REASON_STOP` and `content_filter: SAFETY` are recognized too.
    """
    if not reason:
        return Finish.MISSING
    name = reason.lower().replace("-", "_").replace(" ", "_").removeprefix("finishreason.")
    name = name.removeprefix("finish_reason_")
    if name in ("none", "null", "unspecified", "unknown"):
        return Finish.MISSING
    return FINISHES.get(name) or FINISHES.get(name.partition(":")[0]) or Finish.OTHER


def read_usage(usage: Any) -> tuple[int, int]:
    """Tokens of prompt and reply. A value that is negative or not a number counts as 0; the reply is still kept."""
    if not isinstance(usage, dict):
        return 0, 0
    prompt, reply, total = (
        next(filter(None, (_count(usage.get(name)) for name in names)), 0)
        for names in (
            ("prompt_tokens", "input_tokens", "prompt_token_count", "promptTokenCount"),
            ("completion_tokens", "output_tokens", "candidates_token_count", "candidatesTokenCount"),
            ("total_tokens", "totalTokenCount"),
        )
    )
    return prompt, reply or (max(0, total - prompt) if prompt else 0)


def _count(value: Any) -> int:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return 0
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return int(value) if 0 < value < MOST else 0  # NaN fails both comparisons


def _reason(choice: dict[str, Any]) -> str:
    """Finish reason from `finish_reason` or the fields that other servers use; of an object, its `type`."""
    for name in ("finish_reason", "finishReason", "stop_reason", "native_finish_reason", "finish_details"):
        value = choice.get(name)
        if isinstance(value, dict):
            value = value.get("type")
        if isinstance(value, str) and value.strip():
            return value.strip()
    return ""


def _content(content: Any) -> tuple[str, str]:
    """Split a message's content (a string or a list of parts) into text and reasoning."""
    said: list[str] = []
    thought: list[str] = []
    for part in content if isinstance(content, list) else [content]:
        kind = part.get("type") if isinstance(part, dict) else None
        (thought if kind in THOUGHTS or (isinstance(part, dict) and part.get("thought") is True) else said).extend(
            _texts(part)
        )
    return "".join(said), "".join(thought)


def _texts(value: Any) -> Iterator[str]:
    """Yield the strings in a value: a string, an object with text, or a list of these. Skip media and tool calls."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)
    elif isinstance(value, dict) and value.get("type") not in ("tool_use", "function", "reasoning.encrypted"):
        names = ("text", "thinking", "reasoning", "reasoning_text", "summary", "content", "value", "refusal")
        found = next((value[name] for name in names if value.get(name)), None)
        if isinstance(found, str | list | dict):
            yield from _texts(found)
