"""Replies as servers write them: content in parts, separate reasoning, finish reasons, unusual usage."""

from typing import Any

import pytest

from ladder.inference.completions import Completion, Finish, normalized, read_completion, read_usage


def read(message: Any, reason: Any = "stop", limit: int | None = None, **body: Any) -> Completion:
    found = read_completion({"choices": [{"message": message, "finish_reason": reason}], **body}, limit)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("reasons", "finish"),
    [
        (
            "stop STOP eos eos_token end_turn stop_sequence COMPLETE complete FinishReason.STOP FINISH_REASON_STOP",
            "stop",
        ),
        ("length max_tokens MAX_TOKENS model_length max_output_tokens FINISH_REASON_MAX_TOKENS", "length"),
        ("model_context_window_exceeded ERROR_LIMIT", "length"),
        (
            "content_filter SAFETY RECITATION PROHIBITED_CONTENT content-filter content_filter:SAFETY refusal",
            "content_filter",
        ),
        ("sensitive guardrail_intervened BLOCKLIST SPII ERROR_TOXIC content_filtered", "content_filter"),
        ("tool_calls function_call tool_use TOOL_CALL", "tool_calls"),
        ("error ERROR network_error insufficient_system_resource abort", "error"),
        ("FINISH_REASON_UNSPECIFIED null", "missing"),
        ("banana malformed_function_call", "other"),
    ],
)
def test_finish_reasons_are_normalized(reasons: str, finish: str) -> None:
    assert {normalized(reason) for reason in reasons.split()} == {Finish(finish)}


def test_a_gemini_reason_with_its_cause() -> None:
    assert normalized("content_filter: RECITATION") == Finish.FILTER


@pytest.mark.parametrize(
    ("reason", "tokens", "finished"),
    [
        ("eos_token", 4, True),
        (None, 4, True),
        ("", 4, True),
        (None, 50, False),
        (None, 0, True),
        ("stop", 50, True),
        ("length", 4, False),
        ("content_filter", 4, False),
        ("tool_calls", 4, False),
        ("banana", 4, False),
        (7, 4, True),
        ({"type": "length", "length": 50}, 4, False),
        ({"type": "stop", "matched": 2}, 4, True),
        (["stop"], 4, True),
    ],
)
def test_a_reply_is_finished_by_its_reason_or_without_one_below_the_limit(
    reason: Any, tokens: int, finished: bool
) -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": tokens}
    assert read({"content": "Whole answer."}, reason, 50, usage=usage).finished is finished


@pytest.mark.parametrize("text", ["", " \n", None, []])
def test_an_empty_answer_is_not_finished(text: Any) -> None:
    assert read({"content": text}).finished is False
    assert read({"content": text, "reasoning_content": "Hm."}).finished is False


THOUGHT = "Let me think."


@pytest.mark.parametrize(
    "message",
    [
        {"content": "42.", "reasoning_content": THOUGHT},
        {"content": "42.", "reasoning": THOUGHT, "reasoning_content": None},
        {"content": "42.", "reasoning": THOUGHT, "reasoning_details": [{"type": "reasoning.text", "text": THOUGHT}]},
        {"content": "42.", "reasoning_details": [{"type": "reasoning.summary", "summary": THOUGHT}]},
        {
            "content": "42.",
            "reasoning_details": [
                {"type": "reasoning.encrypted", "data": "x"},
                {"type": "reasoning.text", "text": THOUGHT},
            ],
        },
        {"content": "42.", "thinking": THOUGHT},
        {"content": "42.", "thinking_blocks": [{"type": "thinking", "thinking": THOUGHT, "signature": "s"}]},
        {"content": [{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": "42."}]},
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]},
                {"type": "text", "text": "42."},
            ]
        },
        {"content": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": THOUGHT}]}, {"text": "42."}]},
        {"content": [{"type": "reasoning", "text": THOUGHT}, {"type": "output_text", "text": "4"}, "2."]},
        {"content": [{"text": THOUGHT, "thought": True}, {"type": "text", "text": {"value": "42."}}]},
    ],
)
def test_reasoning_is_apart_from_the_text(message: Any) -> None:
    found = read(message)
    assert (found.text, found.reasoning, found.finished) == ("42.", THOUGHT, True)


def test_the_text_is_the_parts_that_are_text() -> None:
    parts = [
        {"type": "text", "text": "See "},
        {"type": "image_url", "image_url": {"url": "https://host/i.png"}},
        {"type": "reference", "reference_ids": [1]},
        {"type": "tool_use", "name": "f", "content": "not said"},
        {"type": "text", "text": None},
        {"type": "text", "text": "this."},
        None,
    ]
    assert read({"content": parts}).text == "See this."
    assert read({"content": "<think>Hm.</think>42."}).text == "<think>Hm.</think>42."


def test_a_refusal_in_its_own_field_is_the_text() -> None:
    found = read({"content": None, "refusal": "I cannot help with that."})
    assert (found.text, found.finished) == ("I cannot help with that.", True)


def test_forms_that_are_near_a_chat_completion() -> None:
    for body in [
        {"choices": [{"text": "Yes.", "finish_reason": "stop"}]},
        {"choices": [{"delta": {"content": "Yes."}, "finish_reason": "stop"}]},
        [{"choices": [{"message": {"content": "Yes."}, "finish_reason": "stop"}]}],
    ]:
        found = read_completion(body)
        assert found and (found.text, found.finished) == ("Yes.", True)
    for reason in ("content_filter", "length"):  # Gemini sends no message
        found = read_completion({"choices": [{"finish_reason": reason, "index": 0}]})
        assert found and (found.text, found.finish) == ("", Finish(reason))


@pytest.mark.parametrize(
    "body",
    [None, 5, "x", [], {}, {"choices": None}, {"choices": []}, {"choices": [None]}, {"choices": [{}]}]
    + [{"choices": [{"message": message}]} for message in (None, {}, [], {"content": 5}, {"content": True})],
)
def test_what_is_no_chat_completion(body: Any) -> None:
    assert read_completion(body) is None


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 3}, (7, 3)),
        ({"prompt_tokens": "7", "completion_tokens": "3.0"}, (7, 3)),
        ({"prompt_tokens": 7.9, "completion_tokens": 3.0}, (7, 3)),
        ({"prompt_tokens": None, "completion_tokens": -3}, (0, 0)),
        ({"prompt_tokens": True, "completion_tokens": "many"}, (0, 0)),
        ({"prompt_tokens": float("inf"), "completion_tokens": float("nan")}, (0, 0)),
        ({"prompt_tokens": {"text": 7}, "completion_tokens": [3]}, (0, 0)),
        ({"prompt_tokens": 1e300, "completion_tokens": 10**400}, (0, 0)),
        ({"input_tokens": 7, "output_tokens": 3}, (7, 3)),
        ({"prompt_tokens": 7, "total_tokens": 10}, (7, 3)),
        ({"total_tokens": 10}, (0, 0)),
        ({}, (0, 0)),
        (None, (0, 0)),
        ("10", (0, 0)),
        ([7, 3], (0, 0)),
        (10, (0, 0)),
    ],
)
def test_odd_usage_counts_what_it_can(usage: Any, tokens: tuple[int, int]) -> None:
    assert read_usage(usage) == tokens
