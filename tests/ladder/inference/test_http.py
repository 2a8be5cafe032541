"""Replies and errors of other servers, through the whole client and its store, against a real server."""

import gzip
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT, user
from endpoints import Answering, Said, Server, serving
from ladder.data.jsonl import Row
from ladder.inference import http
from ladder.inference.client import Client, Reply, Request
from ladder.inference.endpoint import UNBOUNDED, Endpoint
from ladder.pipeline.stage import UserError


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "work"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return tmp_path / "work" / "replies"


def client_of(server: Server, **changed: Any) -> Client:
    settings = {"model": "big", "concurrency": 4, "retries": 0, "timeout": 20, "max_failed": 1.0, **changed}
    return Client(Endpoint(base_url=server.base_url, **settings), UNBOUNDED)


def ask(client: Client, *prompts: str, progress: str = "") -> list[Reply | None]:
    return client.ask([Request(user(prompt)) for prompt in prompts], progress=progress)


def body(value: Any, status: int = 200) -> Said:
    return Said(body=json.dumps(value).encode(), status=status)


def completion(message: Any, reason: Any = "stop", usage: Any = None) -> Said:
    return body({"choices": [{"index": 0, "message": message, "finish_reason": reason}], "usage": usage})


def by_prompt(said: dict[str, Said]) -> Answering:
    return lambda asked, _: said[asked["messages"][0]["content"]]


CREDITS = {"id": "gen-1", "error": {"message": "Upstream says: insufficient credits on this account", "code": 402}}
PARTS = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "Let me think."}]},
    {"type": "text", "text": "Forty-two."},
]
LLAMA = {
    "error": {
        "code": 400,
        "message": "the request exceeds the available context size, try increasing it",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": 9000,
        "n_ctx": 4096,
    }
}
GEMINI = [
    {
        "error": {
            "code": 400,
            "message": "The input token count (12) exceeds the maximum number of tokens",
            "status": "X",
        }
    }
]


def test_replies_and_errors_of_other_servers(capsys: pytest.CaptureFixture[str], own_store: Path) -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 9}
    said = {
        "parts": completion({"role": "assistant", "content": PARTS}, "stop", usage),
        "filtered": completion({"role": "assistant", "content": ""}, "content_filter", usage),
        "eos": completion({"content": "Whole answer."}, "eos_token", usage),
        "null": completion({"content": "Whole answer too."}, None, usage),
        "llama": body(LLAMA, 400),
        "gemini": body(GEMINI, 400),
        "apart": completion({"content": "Four.", "reasoning_content": "2 + 2"}, "stop", usage),
        "cut": completion({"content": None, "reasoning": "2 + 2 is"}, "length", usage),
        "banana": completion({"content": "Half"}, "banana", usage),
    }
    wanted = [
        Reply("Forty-two.", 5, 9, True, reasoning="Let me think."),
        None,
        Reply("Whole answer.", 5, 9, True),
        Reply("Whole answer too.", 5, 9, True),
        None,
        None,
        Reply("Four.", 5, 9, True, reasoning="2 + 2"),
        Reply("", 5, 9, False, reasoning="2 + 2 is"),
        Reply("Half", 5, 9, False),
    ]
    with serving(by_prompt(said)) as server:
        assert ask(client_of(server), *said, progress="say") == wanted
        assert ask(client_of(server), *said) == wanted
        assert len(server.asked) == 9 + 3  # requests without a reply are sent again
    err = capsys.readouterr().err
    assert "big: 3 requests have no reply: " in err
    assert "2 longer than the server's context" in err and "1 refused by a content filter" in err
    assert "try increasing it" in err or "exceeds the maximum number of tokens" in err
    assert "finish_reason 'content_filter'" in err
    assert "big: 1 replies have no text and count as unfinished" in err
    assert "big: 1 replies ended with the unknown reason 'banana' and count as unfinished" in err
    (store,) = own_store.glob("*.jsonl")
    kept: list[Row] = [json.loads(line)[1] for line in store.read_text().splitlines()]
    assert sorted(row["text"] for row in kept if "reasoning" in row) == ["", "Forty-two.", "Four."]
    assert {tuple(row) for row in kept if "reasoning" not in row} == {
        ("text", "prompt_tokens", "tokens", "finished", "base_url")
    }


def test_a_server_s_own_words_stop_the_run_that_no_request_would_pass(own_store: Path) -> None:
    key = "API key not valid. Please pass a valid API key."
    for fault, words in [
        (body(CREDITS), "answered 200 with error 402: Upstream says: insufficient credits on this account"),
        (body([{"error": {"code": 400, "message": key, "status": "INVALID_ARGUMENT"}}], 400), f"answered 400: {key}"),
        (Said(body=b"<html><h1>404</h1><p>Not Found</p></html>", status=404), "answered 404: 404 Not Found"),
        (Said(body=b"", status=403), "answered 403: Forbidden"),
        (body({"error": "x" * 5000}, 401), f"answered 401: {'x' * 300}…"),
        (body({"error": "a\x1b[2Jb\nc"}, 401), "answered 401: a b c"),
    ]:
        with serving(lambda *_, fault=fault: fault) as server:
            with pytest.raises(UserError) as refused:
                ask(client_of(server, concurrency=1), "a", "b")
            assert words in str(refused.value)
            assert len(server.asked) == 1


def test_an_error_within_http_200_is_never_stored(own_store: Path) -> None:
    said = {
        "text": body({"error": "upstream failed"}),
        "choice": body({"choices": [{"error": {"message": "m", "code": 502}, "message": {"content": "Half"}}]}),
        "reason": completion({"content": "Half"}, "error"),
        "both": body(
            {"error": {"message": "m"}, "choices": [{"message": {"content": "Yes."}, "finish_reason": "stop"}]}
        ),
        "old": body({"object": "error", "message": "maximum context length is 5", "code": 400}),
        "list": body(GEMINI),
        "html": Said(body=b"<!doctype html><title>Sign in</title>"),
        "stream": Said(body=b': wait\n\ndata: {"error": {"message": "upstream"}}\n\ndata: [DONE]\n\n'),
        "chunks": Said(body=b'data: {"choices": [{"delta": {"content": "Yes."}}]}\n\n'),
        "empty": Said(body=b""),
        "deep": Said(body=b"[" * 100_000),
        "bytes": Said(body=b'{"choices": "\xff"}'),
        "base": body({"choices": None, "base_resp": {"status_code": 1000, "status_msg": "unknown error"}}),
    }
    with serving(by_prompt(said)) as server:
        client = client_of(server)
        assert ask(client, *said) == [None] * len(said)
        assert len(client.store) == 0
        assert client.bought.tokens == 0


USAGES: list[Any] = [
    None,
    "many",
    [],
    7,
    {},
    {"prompt_tokens": None, "completion_tokens": None},
    {"prompt_tokens": "5", "completion_tokens": -3},
    {"prompt_tokens": 5.0, "completion_tokens": {"text": 3}},
    {"usage": {"prompt_tokens": 5}},
]


def test_a_reply_with_odd_usage_is_kept() -> None:
    said = {str(number): completion({"content": "Yes."}, "stop", usage) for number, usage in enumerate(USAGES)}
    with serving(by_prompt(said)) as server:
        replies = ask(client_of(server), *said)
        assert [reply and (reply.text, reply.finished) for reply in replies] == [("Yes.", True)] * len(USAGES)
        assert [reply.prompt_tokens for reply in replies if reply] == [0, 0, 0, 0, 0, 0, 5, 5, 0]
        ask(client_of(server), *said)
        assert len(server.asked) == len(USAGES)


def test_an_empty_answer_is_asked_for_again_and_then_kept_as_unfinished() -> None:
    with serving(lambda _, before: Said("" if before < 2 else "Yes.")) as server:
        assert ask(client_of(server, retries=6), "a") == [Reply("Yes.", 7, 3, True)]
        assert len(server.asked) == 3
    with serving(lambda *_: Said(" \n")) as server:
        client = client_of(server, retries=6, model="other")
        assert ask(client, "a") == ask(client, "a") == [Reply(" \n", 7, 3, False)]
        assert len(server.asked) == 3  # all three count as spending
        assert (client.bought.requests, client.bought.tokens) == (3, 9)


def test_an_empty_reply_of_an_older_store_is_not_finished() -> None:
    with serving(lambda *_: Said("Yes.")) as server:
        client = client_of(server)
        ask(client, "a")
        key = next(iter(client.store._places)).hex()
        client.store.add(key, {**client.store[key], "text": "", "finished": True})
        assert ask(client_of(server), "a") == [Reply("", 7, 3, False)]


INTERRUPTED = """
import sys
from ladder.inference.client import Client, Request
from ladder.inference.endpoint import UNBOUNDED, Endpoint

endpoint = Endpoint(base_url=sys.argv[1], model="big", concurrency=4)
requests = [Request([{"role": "user", "content": f"Say {number}."}]) for number in range(20)]
try:
    Client(endpoint, UNBOUNDED).ask(requests, progress="")
except KeyboardInterrupt as interrupt:
    sys.exit(f"stopped: {interrupt}")
"""


@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
def test_ctrl_c_keeps_what_is_under_way_and_a_second_one_drops_it(twice: bool, own_store: Path) -> None:
    asked, release = threading.Semaphore(0), threading.Event()

    def waits(*_: object) -> Said:
        asked.release()
        release.wait(60)
        return Said("Yes.")

    with serving(waits) as server:
        command = [sys.executable, "-c", INTERRUPTED, server.base_url]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr
            assert all(asked.acquire(timeout=60) for _ in range(4))
            process.send_signal(signal.SIGINT)
            assert "waiting for 4 replies in flight, up to 120 s" in process.stderr.readline()
            if twice:
                process.send_signal(signal.SIGINT)
                assert process.wait(60) == 1
            release.set()
            assert "stopped: replies so far are saved; run again to continue" in process.stderr.read()
        assert len(server.asked) == 4
        assert ask(client_of(server), *(f"Say {number}." for number in range(20))) == [Reply("Yes.", 7, 3, True)] * 20
        assert len(server.asked) == (24 if twice else 20)


def test_the_client_of_an_endpoint_imports_no_torch() -> None:
    program = "import sys, ladder.inference.client; sys.exit(bool({'torch', 'transformers'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("packed", [False, True])
def test_a_body_without_an_end_is_read_no_further(packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LARGEST_BODY", 1 << 20)
    content = b'{"choices": [{"message": {"content": "' + b"x" * (4 << 20) + b'"}}]}'
    said = Said(body=gzip.compress(content), headers={"Content-Encoding": "gzip"}) if packed else Said(body=content)
    with (
        serving(lambda *_: said) as server,
        pytest.raises(UserError, match="answered 200 with more than 1048576 bytes"),
    ):
        ask(client_of(server, max_failed=0.0), "a")
