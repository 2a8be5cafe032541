import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT, user
from endpoints import Said, Server, says, serving
from ladder.data.jsonl import Row
from ladder.inference.client import Client, Reply, Request, seeded
from ladder.inference.client import client_of as client_cache
from ladder.inference.endpoint import UNBOUNDED, Budget, Endpoint
from ladder.inference.rate_limiter import backoff
from ladder.inference.server_errors import retry_after
from ladder.inference.types import Sampling
from ladder.pipeline.stage import Config, UserError, fit

TOO_LONG = Said(body=b'{"error": {"message": "long", "code": "context_length_exceeded"}}', status=400)
FILTERED = Said(body=b'{"error": {"message": "no", "code": "content_filter"}}', status=400)


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "work"))
    return tmp_path / "work" / "replies"


def client_of(server: Server, budget: Budget = UNBOUNDED, **changed: Any) -> Client:
    settings = {"model": "big", "concurrency": 4, "retries": 3, "timeout": 20, **changed}
    return Client(Endpoint(base_url=server.base_url, **settings), budget)


def asked(count: int, schema: type[Config] | None = None) -> list[Request]:
    return [Request(user(f"Say {number}."), Sampling(), schema) for number in range(count)]


def number_of(body: Row) -> int:
    return int(body["messages"][0]["content"][4:-1])


class Grade(Config):
    grade: int


def texts(replies: list[Reply | None]) -> list[str | None]:
    return [reply.text if reply else None for reply in replies]


def test_replies_stand_in_the_order_asked_and_a_second_run_buys_nothing() -> None:
    with serving(lambda body, _: Said(f"It is {number_of(body)}.")) as server:
        wanted = [Reply(f"It is {number}.", 7, 3, True) for number in range(40)]
        assert client_of(server).ask(asked(40), progress="") == wanted
        second = client_of(server)
        assert second.ask(asked(40), progress="") == wanted
        assert len(server.asked) == 40
        assert second.bought.requests == 0


def test_what_is_sent_is_the_request_and_what_it_is_kept_by() -> None:
    first = Request(user("Hi"), Sampling(0.7, 0.9, 50, 3))
    wanted = {"model": "big", "messages": user("Hi"), "temperature": 0.7, "top_p": 0.9, "max_tokens": 50, "seed": 3}
    greedy = [Request(user("Hi"), Sampling(0, 0.9, 50, seed)) for seed in (3, 4)]
    changed = [
        Request(user("Ho"), first.sampling),
        *(Request(user("Hi"), Sampling(*one)) for one in [(0.8, 0.9, 50, 3), (0.7, 1, 50, 3), (0.7, 0.9, 9, 3)]),
        Request(user("Hi"), Sampling(0.7, 0.9, 50, 4)),
    ]
    with serving(says(Said())) as server:
        client_of(server).ask([first, first], progress="")
        assert server.asked == [wanted]
        client_of(server).ask([first, *changed], progress="")
        assert len(server.asked) == 1 + len(changed)
        client_of(server, model="other").ask([first], progress="")
        assert len(server.asked) == 2 + len(changed)
        client_of(server).ask(greedy, progress="")  # without sampling, a seed has no effect
        assert len(server.asked) == 3 + len(changed)
        assert server.asked[-1] == {name: wanted[name] for name in wanted if name != "seed"} | {"temperature": 0}


def test_an_endpoint_adds_fields_of_its_own_and_a_reply_is_kept_by_them() -> None:
    effort = {"reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": False}, "top_p": None}
    hot = [Request(user("Hi"), Sampling(0.7, 0.9, 50, 3))]
    with serving(says(Said())) as server:
        for _ in range(2):
            client_of(server, limit="max_completion_tokens", extra=effort).ask(hot, progress="")
        client_of(server, limit="max_completion_tokens").ask(hot, progress="")
        first, second = server.asked
    common = {"model": "big", "messages": user("Hi"), "temperature": 0.7, "max_completion_tokens": 50, "seed": 3}
    assert first == {**common, "reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": False}}
    assert second == {**common, "top_p": 0.9}
    assert client_cache(Endpoint(base_url="https://host/v1", model="m", extra=effort), UNBOUNDED)  # it is hashable


def test_a_server_that_moved_sells_nothing_again_and_it_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(says(Said("One"))) as server:
        client_of(server).ask(asked(2), progress="")
    with serving(says(Said("Two"))) as moved:
        assert texts(client_of(moved).ask(asked(3), progress="say")) == ["One", "One", "Two"]
        assert len(moved.asked) == 1
    assert f"2 of the replies are from {server.base_url}, not {moved.base_url}" in capsys.readouterr().err


def test_samples_of_one_conversation_differ_and_do_not_depend_on_their_place() -> None:
    hot = Sampling(temperature=1.0, seed=5)
    few = seeded([user("a"), user("b"), user("a")], hot)
    assert len({request.sampling.seed for request in few}) == 3
    assert all(0 <= request.sampling.seed < 2**31 for request in few)
    more = seeded([user("c"), user("b"), user("a"), user("a"), user("a")], hot)
    assert [more[2], more[1], more[3]] == few
    assert {request.sampling.seed for request in seeded([user("a")] * 3, Sampling(seed=6, temperature=1.0))}.isdisjoint(
        request.sampling.seed for request in few
    )
    assert len(set(one.sampling.seed for one in seeded([user("a")] * 3, Sampling()))) == 1  # greedy: one seed
    with serving(lambda body, _: Said(str(body["seed"]))) as server:
        client = client_of(server)
        assert len(set(texts(client.ask(seeded([user("a")] * 8, hot), progress="")))) == len(server.asked) == 8


@pytest.mark.parametrize(
    "fault",
    [
        Said("late", status=408),
        Said("locked", status=409),
        Said("busy", status=429),
        Said("broken", status=500),
        Said("overloaded", status=529),
        Said(body=b"<html>busy</html>"),
        Said(body=b'{"choices": []}'),
        Said(body=b'{"choices": [{}]}'),
        Said(body=b'"well"'),
        Said(body=b'{"error": {"message": "upstream"}}'),
        Said(cut=20),
        Said(reset=True),
    ],
    ids=["408", "409", "429", "500", "529", "html", "no choice", "no message", "text", "200 error", "cut", "reset"],
)
def test_what_passes_by_itself_is_tried_again(fault: Said) -> None:
    with serving(says(fault, Said())) as server:
        assert texts(client_of(server).ask(asked(4), progress="")) == ["[[5]]"] * 4
        assert len(server.asked) == 8


def test_a_server_that_hangs_is_tried_again_after_the_timeout() -> None:
    with serving(says(Said(hang=True), Said())) as server:
        assert texts(client_of(server, timeout=0.3).ask(asked(2), progress="")) == ["[[5]]"] * 2
        assert len(server.asked) == 4
        server.answering = says(Said(hang=True))
        with pytest.raises(UserError, match="no answer within 0.3 s"):
            client_of(server, timeout=0.3, retries=0).ask(asked(3), progress="")


def test_retry_after_holds_every_request_back() -> None:
    times: list[float] = []

    def limited(*_: object) -> Said:
        times.append(time.monotonic())
        if len(times) == 1:
            return Said("slow down", status=429, headers={"Retry-After": "0.5"})
        return Said(latency=0.2)

    with serving(limited) as server:
        assert texts(client_of(server).ask(asked(12), progress="")) == ["[[5]]"] * 12
        assert len(server.asked) == 13
    assert min(times[4:]) - times[0] >= 0.5  # four were in flight when the server reported the limit


def test_retry_after_as_seconds_or_date() -> None:
    assert retry_after("1.5") == 1.5
    assert 8 < retry_after(formatdate(time.time() + 10, usegmt=True)) <= 10  # type: ignore[operator]
    assert retry_after("-1") == retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after(None) is retry_after("soon") is None


def test_backoff_doubles_up_to_a_minute() -> None:
    for tried, most in enumerate([0.5, 1, 2, 4, 8, 16, 32, 60, 60]):
        assert 0.75 * most <= backoff(tried) <= most


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Said("no such key", status=401), "answered 401: .*no such key"),
        (Said("no such model", status=404), "answered 404"),
        (Said("later", status=429, headers={"Retry-After": "7200"}), "asks to wait 7200 s. Replies so far"),
        (
            Said(body=b'{"error": {"message": "pay", "code": "insufficient_quota"}}', status=429),
            "answered 429: .*pay",
        ),
    ],
)
def test_what_does_not_pass_is_refused_at_once(fault: Said, said: str) -> None:
    with serving(says(fault)) as server:
        with pytest.raises(UserError, match=said):
            client_of(server, concurrency=1).ask(asked(5), progress="")
        assert len(server.asked) == 1


def test_a_server_that_never_recovers_is_refused_after_the_retries() -> None:
    with serving(says(Said("broken", status=500))) as server:
        with pytest.raises(UserError, match="answered 500: .*broken"):
            client_of(server, retries=1).ask(asked(1), progress="")
        assert len(server.asked) == 2
    with pytest.raises(UserError, match="cannot be reached"):
        client_of(server, retries=0).ask(asked(2), progress="")  # the connection is closed


def test_a_request_without_a_reply_stops_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    too_large = "Request too large for m on tokens per min (TPM): Limit 9, Requested 10."  # a 429 that is permanent
    faults = {0: TOO_LONG, 2: FILTERED, 4: Said(too_large, status=429)}
    with serving(lambda body, _: faults.get(number_of(body), Said())) as server:
        client = client_of(server, retries=0)
        assert texts(client.ask(asked(5), progress="say")) == [None, "[[5]]", None, "[[5]]", None]
        assert client.bought.requests == 2
    assert "big: 3 requests have no reply" in capsys.readouterr().err


def test_a_reply_without_a_text_is_empty() -> None:
    with serving(says(Said(None, finish="length"))) as server:
        assert client_of(server).ask(asked(1), progress="") == [Reply("", 7, 3, False)]


def test_half_a_surrogate_pair_in_a_reply_is_a_character_that_can_be_written_and_sent() -> None:
    with serving(lambda body, before: Said('{"wrong": "\ud83d\ude00 \ud83d"}')) as server:
        client = client_of(server, max_failed=1)
        assert texts(client.ask(asked(1), progress="")) == ['{"wrong": "\U0001f600 \ufffd"}']
        assert client.ask(asked(1, Grade), progress="") == [None]
        assert server.asked[-1]["messages"][1]["content"] == '{"wrong": "\U0001f600 \ufffd"}'


def test_a_request_that_utf_8_cannot_hold_is_named_and_stops_no_other() -> None:
    half = Request(user("\ud83d"))
    with serving(says(Said("Yes."))) as server:
        assert texts(client_of(server, max_failed=0.5).ask([half, *asked(1)], progress="")) == [None, "Yes."]
        with pytest.raises(UserError, match="cannot encode the request: an unpaired surrogate in a text"):
            client_of(server).ask([half], progress="")
        assert len(server.asked) == 1


def test_an_error_costs_nothing_that_was_under_way() -> None:
    with serving(lambda body, _: Said("no", status=400) if number_of(body) == 3 else Said(latency=0.2)) as server:
        with pytest.raises(UserError, match="answered 400"):
            client_of(server).ask(asked(10), progress="")
        assert Counter(server.answered) == Counter(f"Say {number}." for number in range(4))
        server.answering = says(Said())
        client_of(server).ask(asked(10), progress="")
        assert len(server.asked) == 4 + 7


def test_no_more_at_once_than_the_endpoint_says() -> None:
    with serving(says(Said(latency=0.02))) as server:
        client_of(server, concurrency=5).ask(asked(40), progress="")
        assert server.most == 5


def test_requests_per_minute_are_kept() -> None:
    times: list[float] = []

    def noted(*_: object) -> Said:
        times.append(time.monotonic())
        return Said()

    with serving(noted) as server:
        started = time.monotonic()
        client_of(server, requests_per_minute=600).ask(asked(5), progress="")
    assert all(asked - started >= 0.1 * number for number, asked in enumerate(times))


def ask_twenty(server: Server) -> None:
    assert texts(client_of(server, retries=0).ask(asked(20), progress="")) == ["[[5]]"] * 20


TWENTY = """
import sys
from ladder.inference.client import Client, Request
from ladder.inference.endpoint import UNBOUNDED, Endpoint

endpoint = Endpoint(base_url=sys.argv[1], model="big", concurrency=4)
requests = [Request([{"role": "user", "content": f"Say {number}."}]) for number in range(20)]
Client(endpoint, UNBOUNDED).ask(requests, progress="")
"""


def test_killed_in_the_middle_and_run_again_buys_nothing_twice(own_store: Path) -> None:
    hung = threading.Semaphore(0)

    def hangs(body: Row, _: int) -> Said:
        if number_of(body) >= 10:
            hung.release()
        return Said(hang=number_of(body) >= 10)

    with serving(hangs) as server:
        with subprocess.Popen([sys.executable, "-c", TWENTY, server.base_url], cwd=ROOT) as process:
            assert all(hung.acquire(timeout=60) for _ in range(4))  # otherwise one would be answered after the kill
            while not (stores := list(own_store.glob("*.jsonl"))) or stores[0].read_bytes().count(b"\n") < 10:
                assert process.poll() is None
            process.kill()  # SIGKILL
        server.answering = says(Said())
        ask_twenty(server)
        assert Counter(server.answered) == Counter(f"Say {number}." for number in range(20))
        assert 20 <= len(server.asked) <= 20 + 4  # the ones in flight, which the dead process never received


def test_two_at_once_on_one_store_buy_nothing_twice() -> None:
    with serving(says(Said(latency=0.1))) as server:
        with ThreadPoolExecutor(2) as both:  # flock locks an open file, so it also works within one process
            assert [one.result() for one in [both.submit(ask_twenty, server) for _ in range(2)]] == [None, None]
        assert len(server.asked) == 20
        assert server.most == 4


def test_the_key_is_sent_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    key = "sk-very-secret-0123456789"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with serving(says(Said(f"{key} [[5]]"))) as server:  # a server that echoes the key
        client = client_of(server, max_failed=1)
        replies = client.ask(asked(3), progress="say")
        assert texts(replies) == ["<OPENAI_API_KEY> [[5]]"] * 3
        assert set(server.keys) == {f"Bearer {key}"}
        refused = []
        for padding in range(120, 200, 8):  # wherever the sentence is cut
            server.answering = says(Said(f"{'x' * padding} {key}", status=401))
            with pytest.raises(UserError) as caught:
                client.ask(asked(4), progress="say")
            refused.append(str(caught.value))
        server.answering = lambda body, _: Said(f"what? {key}", status=422 if "response_format" in body else 200)
        client.ask([Request(user("Object?"), Sampling(), Grade)], progress="say")
    shown = [*refused, repr(replies), *capfd.readouterr()]
    kept = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(kept) == 2  # the store and its lock
    assert not any(key[:9] in text for text in shown + kept)
    assert "<OPENAI_API_KEY>" in refused[0]


def test_a_placeholder_for_a_key_is_left_in_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")
    with serving(says(Said("It is EMPTY."))) as server:
        assert texts(client_of(server).ask(asked(1), progress="")) == ["It is EMPTY."]


def test_an_endpoint_holds_no_secret_and_no_nonsense() -> None:
    server = {"base_url": "https://host/v1", "model": "m"}
    for wrong, said in [
        ({**server, "api_key": "sk-1"}, "endpoint.api_key: no such key"),
        ({**server, "base_url": "https://user:sk-1@host/v1"}, "endpoint.base_url: has a user"),
        ({**server, "base_url": "https://host/v1?key=sk-1"}, "endpoint.base_url: has a user"),
        ({**server, "extra": {"model": "n"}}, "endpoint.extra: model: set by the request"),
        ({**server, "limit": "length"}, "endpoint.limit: expected 'max_tokens' or 'max_completion_tokens'"),
        ({**server, "concurrency": 0}, "endpoint.concurrency: .* greater than or equal to 1"),
        ({**server, "prices": {"prompt": 1}}, "endpoint.prices.completion: missing"),
    ]:
        with pytest.raises(UserError, match=said) as refused:
            fit(Endpoint, wrong, "endpoint")
        assert "sk-1" not in str(refused.value)
    assert fit(Endpoint, server, "endpoint").concurrency == 64
