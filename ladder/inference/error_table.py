"""Table of error responses of OpenAI-compatible servers: status, error name and message pattern to error kind.

`classify` in ladder/inference/server_errors.py reads SIGNS in order; the first matching sign decides. Signs with both a
status and a pattern that must take precedence come first. Then come error names (`code`, `type`, `status` and `reason`
of the body), then message patterns, and last the status alone. Comments of the entries name the servers that send them.
"""

import re
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Kind of an error, by its consequence for a run."""

    CONTEXT = "longer than the server's context"
    """The request exceeds the model's context. The row has no reply."""
    FILTER = "refused by a content filter"
    """A content filter refused the request. The row has no reply."""
    RATE = "rate limit"
    """The request is sent again, at the rate that the server allows."""
    OVERLOAD = "server overloaded"
    """Handled like RATE."""
    QUOTA = "no credit or quota left"
    """The run stops at once; this also holds for the next four kinds."""
    KEY = "key refused"
    MODEL = "no such model"
    ADDRESS = "wrong address"
    UNREACHABLE = "cannot be reached"
    """Retried before the run stops."""
    REQUEST = "request refused"
    """The request fails for good; the other requests continue."""
    SERVER = "server error"
    """The request is retried, up to `retries` times."""


def plain(name: str) -> str:
    """Normalize an error's name, so that `RateLimitExceeded` equals `rate_limit_exceeded`: lower case, alphanumeric."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


@dataclass(frozen=True)
class Sign:
    """Table entry; an error matches if it meets all conditions that are set."""

    kind: Kind
    statuses: frozenset[int] = frozenset()
    """HTTP statuses; 0 is an error without a status inside an HTTP 200 response. Empty: any status."""
    names: frozenset[str] = frozenset()
    """Error names, normalized by `plain`; one must match. Empty: any name."""
    words: re.Pattern[str] | None = None
    """Pattern to search for in the error's message, case-insensitive."""


def _named(kind: Kind, *names: str) -> Sign:
    return Sign(kind, names=frozenset(map(plain, " ".join(names).split())))


def _worded(kind: Kind, statuses: frozenset[int], *words: str) -> Sign:
    return Sign(kind, statuses, words=re.compile("|".join(words), re.IGNORECASE | re.DOTALL))


OF_REQUEST = frozenset({0, 400, 404, 413, 422, 424, 500})
"""Statuses under which a message about the request decides. 424 is SageMaker's for an error of the model's server."""

SIGNS: tuple[Sign, ...] = (
    # A request above the limit of tokens per minute can never succeed. OpenAI 429, Groq 413.
    _worded(Kind.CONTEXT, frozenset({413, 429}), r"request too large for"),
    # xAI 403 "Content violates usage guidelines. … Failed check: SAFETY_CHECK_TYPE_BIO"; OpenRouter 403 "requires
    # moderation … input was flagged"; AWS and Databricks guardrails.
    _worded(
        Kind.FILTER,
        frozenset({403, 451}),
        r"violates? (?:our |the )?(?:usage|content|safety)",
        r"safety_check",
        r"requires moderation",
        r"\bflagged\b",
        r"guardrail",
        r"content (?:policy|filter)",
    ),
    # Google sends 403 for a rate limit: rateLimitExceeded or userRateLimitExceeded; GitHub for its secondary limit.
    _worded(Kind.RATE, frozenset({403}), r"rate limit"),
    _named(
        Kind.CONTEXT,
        "context_length_exceeded",  # OpenAI, Azure, Cerebras, Groq, DeepInfra, TensorRT-LLM (2026)
        "exceed_context_size_error",  # llama.cpp since 2025-09
        "context_window_exceeded ContextWindowExceededError",  # LiteLLM
        "model_context_window_exceeded max_context_length_exceeded context_size_exceeded context_overflow",
        "string_above_max_length",  # OpenAI: more characters than a message may have
        "request_too_large",  # Anthropic 413
        "prompt_too_long input_too_long tokens_exceeded too_many_tokens",
        "1261",  # Zhipu
    ),
    _named(
        Kind.FILTER,
        "content_filter content_policy_violation ResponsibleAIPolicyViolation",  # OpenAI, Azure (also innererror)
        "invalid_prompt cyber_policy_violation",  # OpenAI's reasoning models
        "ContentPolicyViolationError content_filtered content_filter_error moderation_blocked guardrail_intervened",
        "data_inspection_failed DataInspectionFailed",  # Alibaba DashScope
        "SensitiveContentDetected InputTextSensitiveContentDetected OutputTextSensitiveContentDetected",  # Volcengine
        "1301 1026 1027",  # Zhipu; MiniMax for input and output
        "PROHIBITED_CONTENT",  # Gemini
    ),
    _named(
        Kind.QUOTA,
        "insufficient_quota billing_not_active billing_hard_limit_reached",  # OpenAI
        "insufficient_credits insufficient_balance insufficient_funds payment_required credits_exhausted",
        "out_of_credits",
        "billing_error",  # Anthropic
        "exceeded_current_quota_error",  # Moonshot
        "Arrearage AccountOverdueError",  # Alibaba DashScope, Volcengine
        "BudgetExceededError budget_exceeded",  # LiteLLM
        "1113 1008",  # Zhipu, MiniMax
    ),
    _named(
        Kind.KEY,
        "invalid_api_key incorrect_api_key invalid_authentication invalid_authentication_error authentication_error",
        "AuthenticationError api_key_invalid API_KEY_INVALID missing_api_key unauthenticated unauthorized",
        "account_deactivated UnrecognizedClientException InvalidApiKey expired_api_key",
    ),
    _named(
        Kind.MODEL,
        "model_not_found invalid_model model_not_available DeploymentNotFound model_not_supported unknown_model",
        "model_not_exist ModelNotFound ENDPOINT_NOT_FOUND 1211",
    ),
    _named(
        Kind.OVERLOAD,
        "overloaded_error engine_overloaded_error",  # Anthropic, Moonshot
        "engine_overloaded server_overloaded overloaded",
        "service_unavailable service_unavailable_error ServiceUnavailableError unavailable unavailable_error",
        "capacity_exceeded insufficient_system_resource server_busy model_overloaded ModelNotReadyException 1305",
    ),
    _named(
        Kind.RATE,
        "rate_limit_exceeded rate_limit_error rate_limit_reached rate_limit_reached_error RateLimitError rate_limited",
        "too_many_requests TooManyRequestsException ThrottlingException throttling throttling_error",
        "RequestLimitExceeded",
        "resource_exhausted RateLimitReached RateLimitExceeded REQUEST_LIMIT_EXCEEDED Throttling.RateQuota",
        "Throttling.AllocationQuota limit_requests limit_burst_rate 1302 1303",
    ),
    _worded(
        Kind.CONTEXT,
        OF_REQUEST,
        # OpenAI; vLLM to 0.11; DeepSeek; OpenRouter; SambaNova; text-generation-webui; Mistral "too large for model
        # with 32768 maximum context length"; SGLang "exceeds the model's maximum context length"
        r"maximum context length",
        # vLLM since 0.12 "the model's context length is only 4096 tokens"; LM Studio "context length of only"
        r"context length (?:is|of) only",
        # vLLM's engine "longer than the maximum model length of 16384"; SGLang "longer than the model's context
        # length"; LM Studio "greater than the context length"
        r"(?:longer|greater|larger) than the (?:model'?s? |maximum |allowed )*(?:context|model|input) (?:length|size)",
        # vLLM 0.6 "is too long to fit into the model"; "Input prompt (… tokens) is too long"; Anthropic and Bedrock
        # through a gateway "prompt is too long: 9 tokens > 8 maximum", "Input is too long for requested model"
        r"(?:prompt|input|messages?)\b.{0,60}\btoo long",
        # vLLM, if the prompt alone fills the context
        r"max_(?:completion_)?tokens must be (?:at least 1|greater than 0), got (?:0|-\d+)",
        # OpenAI "exceeds the context window"; llama.cpp "exceeds the available context size"; llama-cpp-python
        # "exceed context window of 512"; Moonshot "exceeded model token limit"; MiniMax
        r"exceed(?:s|ed)? (?:the |this |your |its |model'?s? |available |maximum |max |configured |allowed )*"
        r"(?:context|token limit|number of tokens|(?:(?:input|prompt|sequence|model) )+(?:length|size|tokens|limit))",
        r"context (?:size|window|length|limit)\b.{0,20}\bexceed",  # MLX in LM Studio, "context length exceeded"
        # Gemini "The input token count (9) exceeds the maximum number of tokens allowed (8)"; TensorRT-LLM and Triton
        # "Prompt length (9) exceeds maximum"; SGLang "Input length (9 tokens) exceeds"; GitHub Copilot
        r"(?:input|prompt) (?:token count|tokens?|length)\b.{0,40}\bexceed",
        r"input tokens exceed the configured limit",  # Azure
        r"maximum (?:prompt|input|sequence) length (?:is|of) \d",  # xAI
        r"reduce the length of the (?:messages|input|prompt)",  # Groq, Cerebras, OpenAI, vLLM
        r"input length and `?max_tokens`? exceed",  # Anthropic
        # TGI, Together; TGI "`inputs` must have less than 1024 tokens"
        r"inputs`? tokens \+ `?max_new_tokens`? must be|inputs`? must have less than \d+ tokens",
        r"trying to keep the first \d+ tokens|tokens to keep from the initial prompt",  # LM Studio
        r"should not exceed max_(?:num_tokens|seq_len|input_len)",  # TensorRT-LLM, NIM
        r"too many (?:input |prompt )?tokens(?!.{0,20}(?:per|wait))",  # Cohere, Bedrock
        r"tokens in request more than max tokens allowed",  # Databricks
        r"length of all messages is too long",  # Perplexity
        r"range of input length should be",  # DashScope
        r"(?:total|requested) tokens?.{0,40}(?:exceed|greater than|more than).{0,30}(?:context|max)",
        r"ContextWindowExceeded|context_length_exceeded|exceed_context_size",  # within a gateway's message
        r"ran out of context|context overflow|out of context",
        r"(?:超过|超出)[^。]{0,20}(?:上下文|长度)",
    ),
    _worded(
        Kind.FILTER,
        OF_REQUEST,
        r"content management policy",  # Azure
        r"content exists risk",  # DeepSeek
        r"violat\w+ (?:our |the |\w+ )?(?:usage|content|safety|acceptable use) (?:guidelines?|polic)",
        r"(?:prompt|input|content|request|output|response) (?:was |has been |is )?(?:flagged|blocked)",
        r"blocked by .{0,40}(?:safety|content|policy|guardrail|moderation|filter)",  # Anthropic, Gemini
        r"inappropriate content",  # DashScope
        r"considered high risk",  # Moonshot
        r"safety (?:system|filter|check)|SAFETY_CHECK|guardrail_intervened",
        r"ContentPolicyViolation|content_policy_violation|content_filter",  # within a gateway's message
        r"sensitive (?:content|words|information)|不安全|敏感",
    ),
    _worded(
        Kind.QUOTA,
        OF_REQUEST | {401, 403, 429},
        r"insufficient (?:credits?|balance|quota|funds)",  # OpenRouter, DeepSeek
        r"credit balance is too low",  # Anthropic 400
        r"(?:out of|run out of|ran out of|no|more) credits",  # OpenRouter, xAI
        r"(?:account|subscription).{0,40}(?:overdue|suspended|in arrears|good standing|not active)",
        r"(?:budget|spending limit|credit limit|hard limit).{0,30}(?:exceeded|reached|over)",
        r"insufficient_quota|余额不足|欠费",
    ),
    _worded(
        Kind.KEY,
        OF_REQUEST,
        r"(?:incorrect|invalid|wrong|missing|expired|no|bad) (?:api|access)[ -_]?(?:key|token)",  # xAI 400
        r"api[ -_]?key.{0,20}(?:not valid|invalid|missing|required|expired|not found|incorrect)",  # Gemini 400
        r"no auth credentials|authentication (?:failed|fails)",
    ),
    _worded(
        Kind.MODEL,
        OF_REQUEST,
        r"model [`'\"]?[\w./:@-]+[`'\"]? (?:does not exist|not found|was not found|is not (?:found|available|loaded))",
        r"(?:invalid|unknown|no such) model\b|not a valid model|model not (?:found|exist)|model identifier is invalid",
        r"no models? (?:is |are )?loaded|invalid model name",  # LM Studio, LiteLLM
    ),
    _worded(
        Kind.OVERLOAD,
        frozenset({0, 429, 500, 502, 503, 504}),
        r"overloaded|over capacity|at capacity|server is busy|temporarily unavailable|no available (?:worker|capacity)",
        r"(?:loading model|model is (?:currently )?loading)|no instances available|high (?:demand|load|traffic)",
    ),
    _worded(
        Kind.RATE,
        frozenset({0, 400, 500, 503}),
        r"rate[- _]?limit|too many requests|throttl|(?:requests|tokens) per (?:minute|min|day|second)",
    ),
    Sign(Kind.QUOTA, frozenset({402})),
    Sign(Kind.KEY, frozenset({401, 403, 407})),
    Sign(Kind.MODEL, frozenset({404, 410})),
    Sign(Kind.CONTEXT, frozenset({413})),
    Sign(Kind.REQUEST, frozenset({400, 422, 424})),
    Sign(Kind.RATE, frozenset({429})),
    Sign(Kind.OVERLOAD, frozenset({498, 503, 529})),  # 498: Groq's flex tier without capacity
    Sign(Kind.SERVER, frozenset({0, 408, 409, 425, 499, *range(500, 600)})),  # transient errors
    Sign(Kind.ADDRESS),
)
