"""Errors as servers write them: each body is from a public report or a server's source code, with its class."""

from pathlib import Path
from typing import Any

import pytest

from ladder.data.jsonl import Row, read_rows
from ladder.inference.error_table import Kind
from ladder.inference.server_errors import (
    Error,
    Fault,
    classify,
    error_of,
    read_error,
    readable,
    retry_after,
    shortened,
    wait_of,
)

CASES = read_rows(Path(__file__).parents[2] / "cases" / "server_errors.jsonl")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['kind']}-{case['status']}")
def test_errors_of_servers_have_their_kind(case: Row) -> None:
    error = read_error(case["body"]) if case["status"] == 200 else error_of(case["body"])
    assert error is not None
    assert classify(case["status"], error).name == case["kind"]


def test_what_each_kind_does_to_a_run() -> None:
    def names(trait: str) -> set[str]:
        return {kind.name for kind in Kind if getattr(Fault("", kind), trait)}

    assert names("no_reply") == {"CONTEXT", "FILTER"}
    assert names("limited") == {"RATE", "OVERLOAD"}
    assert names("of_all") == {"QUOTA", "KEY", "MODEL", "ADDRESS", "UNREACHABLE"}
    assert names("again") == {"RATE", "OVERLOAD", "SERVER", "UNREACHABLE"}


def test_the_same_words_in_a_prompt_that_a_server_echoes_decide_nothing() -> None:
    echoed = {"detail": [{"loc": ["body", "messages", 0], "msg": "Field required", "input": "prompt is too long"}]}
    error = error_of(echoed)
    assert error.message == "body.messages.0: Field required"
    assert classify(422, error) == Kind.REQUEST


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"message": {"content": "Hi"}}], "error": None},
        {"choices": [{"message": {"content": "Hi"}}], "errors": [], "base_resp": {"status_code": 0, "status_msg": ""}},
        {"choices": []},
        {"choices": [{}]},
        [],
        "text",
        5,
        None,
    ],
)
def test_a_body_without_an_error_has_none(body: Any) -> None:
    assert read_error(body) is None


def test_errors_within_http_200() -> None:
    for body, said in [
        ({"error": "busy"}, "busy"),
        ({"object": "error", "message": "m", "code": 400}, "m"),
        ({"choices": [{"error": {"message": "upstream", "code": 502}, "finish_reason": "error"}]}, "upstream"),
        ({"choices": None, "detail": "no"}, "no"),
        ([{"error": {"message": "list"}}], "list"),
        ({"success": False, "errors": [{"code": 7003, "message": "route"}]}, "route"),
        ({"promptFeedback": {"blockReason": "SAFETY"}}, "prompt blocked: SAFETY"),
    ]:
        error = read_error(body)
        assert error is not None and error.message == said


def test_a_message_is_one_line_without_markup_and_control_characters() -> None:
    assert readable("a\x1b[31mred\x1b[0m\r\n\tb\x00\u202ec\u200bd \ud83d") == "a red b c d"
    assert readable("<!DOCTYPE html><style>p{}</style><h1>502</h1>\n<p>Bad  Gateway</p>") == "502 Bad Gateway"
    assert readable("if a < b and b > c") == "if a < b and b > c"
    assert shortened("x" * 301) == "x" * 300 + "…" and shortened("x" * 300) == "x" * 300


def test_a_wait_is_read_of_headers_or_of_google_s_body() -> None:
    info = {"error": {"code": 429, "details": [{"reason": "R"}, {"@type": "RetryInfo", "retryDelay": "34.5s"}]}}
    assert wait_of({}, error_of(info)) == 34.5
    assert wait_of({"retry-after": "2"}, error_of(info)) == 2
    assert wait_of({"retry-after-ms": "1500"}, Error("")) == 1.5
    assert [retry_after(odd) for odd in ("inf", "nan", "soon", "", None)] == [None] * 5


def test_no_body_is_a_traceback() -> None:
    deep: Any = "x"
    for _ in range(300):
        deep = {"error": [deep]}
    for body in [
        deep,
        {"error": {"code": True, "type": [], "message": {"a": 1}}},
        {"error": {"code": 10**30}},
        [[[]]],
        {1: 2},
    ]:
        assert classify(500, error_of(body)) == Kind.SERVER
