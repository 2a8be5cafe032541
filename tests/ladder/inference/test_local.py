import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from conftest import user
from ladder.inference.client import ask, client_of
from ladder.inference.endpoint import Endpoint
from ladder.inference.local import Answer, decoded
from ladder.inference.types import Sampling
from ladder.pipeline.stage import UserError
from ladder.verifiers.reasoning import strip_reasoning
from perf.pico import pico_tokenizer

GOOD = {"choices": [{"message": {"content": " Yes. "}, "finish_reason": "stop"}], "usage": {"completion_tokens": 3}}


class Server(ThreadingHTTPServer):
    """A small server that gives the specified answers: (status, body) in turn, then the last one repeatedly."""

    def __init__(self, replies):
        self.replies, self.asked, self.lock = replies, [], threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append(asked)
            status, body = self.server.replies.pop(0) if len(self.server.replies) > 1 else self.server.replies[0]
        text = body if isinstance(body, bytes) else json.dumps(body(asked) if callable(body) else body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@pytest.fixture
def serve(tmp_path, monkeypatch):
    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "work"))  # replies are cached by model, not by server
    client_of.cache_clear()
    servers = []

    def start(*replies):
        server = Server(list(replies))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server, Endpoint(
            base_url=f"http://127.0.0.1:{server.server_port}/v1", model="m", retries=1, concurrency=4
        )

    yield start
    for server in servers:
        server.shutdown()


def echo(asked):
    return {**GOOD, "choices": [{"message": {"content": asked["messages"][0]["content"]}, "finish_reason": "length"}]}


def test_answers_stand_in_the_order_asked(serve):
    server, endpoint = serve((200, echo))
    answers = ask(endpoint, [user(str(n)) for n in range(20)], Sampling(0.7, 0.9, 50, 100), progress="")
    assert [answer.text for answer in answers] == [str(n) for n in range(20)]
    assert answers[0] == Answer("0", 3, False)
    first = next(asked for asked in server.asked if asked["messages"] == user("3"))
    wanted = {"model": "m", "temperature": 0.7, "top_p": 0.9, "max_tokens": 50, "messages": user("3")}
    assert {**wanted, "seed": first["seed"]} == first
    assert ask(endpoint, [user(str(n)) for n in range(20)], Sampling(0.7, 0.9, 50, 100), progress="") == answers
    assert len(server.asked) == 20


def test_samples_of_a_prompt_differ(serve):
    server, endpoint = serve((200, lambda asked: {**GOOD, "choices": [{"message": {"content": str(asked["seed"])}}]}))
    answers = ask(endpoint, [user("Hi")] * 5, Sampling(1.0), progress="")
    assert len({answer.text for answer in answers}) == len(server.asked) == 5


def test_no_text_is_an_answer_that_did_not_end(serve):
    empty = {**GOOD, "choices": [{"message": {"content": None}, "finish_reason": "length"}]}
    too_long = {"error": {"message": "long", "code": "context_length_exceeded"}}
    _, endpoint = serve((200, empty), (400, too_long))
    answers = ask(endpoint.model_copy(update={"concurrency": 1}), [user("Hi"), user("Ho")], Sampling(), progress="")
    assert answers == [Answer("", 3, False), Answer("", 0, False)]


def test_an_overloaded_server_is_asked_again(serve):
    server, endpoint = serve((500, {}), (200, GOOD))
    assert ask(endpoint, [user("Hi")], Sampling(), progress="") == [Answer("Yes.", 3, True)]
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ((401, {"error": {"message": "no such key"}}), "answered 401: .*no such key"),
        ((200, {**GOOD, "choices": []}), "answered without a choice"),
        ((200, b"<html>"), "answered with something that is not JSON"),
    ],
)
def test_a_reply_that_is_no_answer_is_refused(serve, reply, said):
    _, endpoint = serve(reply)
    with pytest.raises(UserError, match=said):
        ask(endpoint, [user("Hi")], Sampling(), progress="")


def test_a_server_that_is_not_there_is_named():
    endpoint = Endpoint(base_url="http://127.0.0.1:9/v1", model="m", retries=0)
    with pytest.raises(UserError, match="endpoint http://127.0.0.1:9/v1 cannot be reached"):
        ask(endpoint, [user("Hi")], Sampling(), progress="")


def reasoning_tokenizer(*special):
    tokenizer = pico_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>", *special]})
    return tokenizer


def test_special_tokens_that_mark_reasoning_stay_in_an_answer():
    text = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>4<|im_end|>"
    harmony = reasoning_tokenizer("<|channel|>", "<|message|>", "<|start|>", "<|end|>")
    said = harmony(text, add_special_tokens=False).input_ids
    assert decoded(harmony, [[]], [said]) == [text.removesuffix("<|im_end|>")]
    assert strip_reasoning(decoded(harmony, [[]], [said])[0]) == ("4", True)
    magistral = reasoning_tokenizer("[THINK]", "[/THINK]")
    said = magistral("[THINK]Hm.[/THINK]4<|im_end|>", add_special_tokens=False).input_ids
    assert decoded(magistral, [[]], [said]) == ["[THINK]Hm.[/THINK]4"]


def test_an_answer_begins_with_the_mark_that_its_prompt_ends_with():
    tokenizer = pico_tokenizer()
    prompts = [tokenizer(text).input_ids for text in ("<|im_start|>assistant\n<think>\n", "<|im_start|>assistant\n")]
    texts = decoded(tokenizer, prompts, [tokenizer("Hm, or<|im_end|>").input_ids] * 2)
    assert texts == ["<think>\nHm, or", "Hm, or"]
    assert [strip_reasoning(text) for text in texts] == [("", False), ("Hm, or", True)]
