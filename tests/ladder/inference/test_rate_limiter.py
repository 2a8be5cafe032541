"""A run against a limited or faulty server: a real server on this machine, and the window by hand."""

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from conftest import user
from endpoints import Answering, Said, Server, serving
from ladder.inference.client import Client, Reply, Request
from ladder.inference.endpoint import UNBOUNDED, Endpoint
from ladder.inference.rate_limiter import RateLimiter
from ladder.pipeline.stage import Config, UserError

pytestmark = pytest.mark.usefixtures("work")


def client_of(server: Server, **changed: Any) -> Client:
    settings = {"model": "big", "concurrency": 8, "retries": 1, "timeout": 20, **changed}
    return Client(Endpoint(base_url=server.base_url, **settings), UNBOUNDED)


def ask(client: Client, count: int, progress: str = "") -> list[Reply | None]:
    return client.ask([Request(user(f"Say {number}.")) for number in range(count)], progress=progress)


def one_is_poison(fault: Said) -> Answering:
    return lambda body, _: fault if body["messages"][0]["content"] == "Say 7." else Said("Yes.")


def paced(steps: Callable[[RateLimiter], Any], concurrency: int = 8) -> RateLimiter:
    """Return the rate limiter after `steps` in an event loop."""

    async def run() -> RateLimiter:
        pace = RateLimiter(Endpoint(base_url="https://host/v1", model="m", concurrency=concurrency))
        pace.begin()
        await steps(pace)
        return pace

    return asyncio.run(run())


async def full(pace: RateLimiter) -> list[float]:
    """Keep the allowed number of requests in flight; return when each was sent."""
    return [sent for _ in range(int(pace.room)) if (sent := await pace.turn()) is not None]


def test_a_window_of_429_halves_it_once_and_replies_raise_it_by_one_a_window() -> None:
    async def refused(pace: RateLimiter) -> None:
        for sent in await full(pace):
            pace.landed()
            pace.busy(sent, 0.0)

    assert paced(refused).room == 4

    async def replied(pace: RateLimiter) -> None:
        await refused(pace)
        for _ in range(4):
            pace.heard(reply=True)

    # 4, 4 + 1/4 = 4.25, + 1/4.25 = 4.4853, + 1/4.4853 = 4.7082, + 1/4.7082 = 4.9206
    assert paced(replied).room == pytest.approx(4.9206, abs=1e-4)


def test_the_window_is_one_at_least_and_the_endpoint_s_concurrency_at_most() -> None:
    async def down(pace: RateLimiter) -> None:
        for _ in range(9):
            pace.busy(asyncio.get_running_loop().time(), 0.0)

    assert paced(down).room == 1

    async def up(pace: RateLimiter) -> None:
        pace.heard(reply=True)

    assert paced(up).room == 8


def test_a_pause_is_what_the_server_asks_for_or_a_time_that_doubles_whichever_is_longer() -> None:
    pauses: list[float] = []

    async def refused(pace: RateLimiter) -> None:
        for asked in (0.0, 0.0, 0.0, 30.0):
            now = asyncio.get_running_loop().time()
            pace.busy(now, asked)
            pauses.append(pace.paused_until - now)

    paced(refused)
    # Half a second and its doubles may be a quarter shorter; the server's wait may not; both up to one second longer.
    for pause, least in zip(pauses, [0.375, 0.75, 1.5, 30], strict=True):
        assert least <= pause < 2 * least


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "0"}, {"Retry-After": "0.2"}], ids=["none", "0", "0.2"])
def test_429_uses_up_no_try(headers: dict[str, str]) -> None:
    met: Counter[str] = Counter()

    def limited(body: dict[str, Any], before: int) -> Said:
        met["busy" if before < 2 else "reply"] += 1
        return Said("slow down", status=429, headers=headers) if before < 2 else Said("Yes.")

    with serving(limited) as server:
        assert ask(client_of(server, retries=0), 3) == [Reply("Yes.", 7, 3, True)] * 3
        assert met == {"busy": 6, "reply": 3}


def test_that_a_server_slows_the_run_down_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(lambda _, before: Said("Yes.", status=200 if before else 429)) as server:
        ask(client_of(server), 8, "say")
    assert re.search(r"56 \+ 24 tokens, [1-7] at once", capsys.readouterr().err)


def test_a_server_that_says_nothing_but_429_is_left_after_the_patience() -> None:
    with serving(lambda *_: Said("slow down", status=429)) as server:
        with pytest.raises(
            UserError, match="answered 429: .*slow down; no other answer for [0-9]+ s. Replies so far are saved"
        ):
            ask(client_of(server, patience=0, timeout=0.5), 3)
        assert 3 <= len(server.asked) <= 9  # after pauses of 0.5 and 1 second the 0.5 second limit is exceeded


@pytest.mark.parametrize(
    ("fault", "tries"),
    [
        (Said("broken", status=500), 3),
        (Said("what?", status=400), 1),
        (Said("what?", status=422), 1),
        (Said(body=b"<html>busy</html>"), 3),
        (Said(cut=20), 3),
        (Said(reset=True), 3),
    ],
    ids=["500", "400", "422", "html", "cut", "reset"],
)
def test_a_request_that_fails_for_good_is_a_row_without_a_reply_and_a_further_run_asks_it_again(
    fault: Said, tries: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(one_is_poison(fault)) as server:
        replies = ask(client_of(server, max_failed=0.05), 20, "say")
        assert [number for number, reply in enumerate(replies) if reply is None] == [7]
        assert Counter(body["messages"][0]["content"] for body in server.asked)["Say 7."] == tries
        assert len(server.asked) == 19 + tries
        assert "big: 1 requests failed; the next run sends them again. Last error: " in capsys.readouterr().err
        ask(client_of(server, max_failed=0.05), 20)
        assert len(server.asked) == 19 + 2 * tries
        server.answering = lambda *_: Said("Now.")
        assert [reply and reply.text for reply in ask(client_of(server), 20)] == ["Yes."] * 7 + ["Now."] + ["Yes."] * 12


def test_a_request_that_met_nothing_but_faults_has_a_last_try_when_all_others_are_done() -> None:
    with serving(
        lambda body, before: Said("Yes.", status=500 if "Say 7." in str(body) and before < 2 else 200)
    ) as server:
        client = client_of(server, max_failed=0.05)
        assert ask(client, 20).count(None) == 0
        assert client.buyer.failed == 0
        assert server.answered[-1] == "Say 7."


def test_a_request_that_hangs_fails_for_good() -> None:
    with serving(one_is_poison(Said(hang=True))) as server:
        assert ask(client_of(server, max_failed=0.05, timeout=0.5), 20).count(None) == 1


def test_more_failed_than_the_share_stops_the_run_and_what_was_bought_is_kept() -> None:
    poison = {"Say 3.", "Say 7."}
    with serving(lambda body, _: Said("no", status=400 if body["messages"][0]["content"] in poison else 200)) as server:
        said = r"answered 400: .*no; 2 of 20 requests failed, more than the share endpoint.max_failed: 0.05"
        with pytest.raises(UserError, match=said):
            ask(client_of(server, max_failed=0.05, concurrency=1), 20)
        assert len(server.asked) == 8
        with pytest.raises(UserError, match=said):
            ask(client_of(server, max_failed=0.05, concurrency=1), 20)
        assert len(server.asked) == 8 + 2  # six were cached
        assert ask(client_of(server, max_failed=0.1), 20).count(None) == 2


def test_the_share_is_of_all_that_a_client_is_asked() -> None:
    with serving(one_is_poison(Said("no", status=400))) as server:
        client = client_of(server, max_failed=0.1)
        assert ask(client, 7).count(None) == 0
        assert ask(client, 10).count(None) == 1  # one of 17
        with pytest.raises(UserError, match="2 of 18 requests failed"):
            client.ask([Request(user("Say 7."))], progress="")


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_no_request_would_pass_stops_at_once(status: int) -> None:
    with serving(lambda *_: Said("no", status=status)) as server:
        with pytest.raises(UserError, match=f"answered {status}"):
            ask(client_of(server, max_failed=1, concurrency=1), 20)
        assert len(server.asked) == 1
    with pytest.raises(UserError, match="cannot be reached"):
        ask(client_of(server, max_failed=1, retries=0), 20)  # the connection is closed


class Grade(Config):
    grade: int


def test_one_poisonous_request_does_not_take_the_schema_from_the_others() -> None:
    def formed(body: dict[str, Any], _: int) -> Said:
        poison = body["messages"][0]["content"] == "Say 7."
        return Said("no", status=400) if poison else Said('{"grade": 1}' if "response_format" in body else "One.")

    requests = [Request(user(f"Say {number}."), schema=Grade) for number in range(20)]
    with serving(formed) as server:
        replies = client_of(server, max_failed=0.05, concurrency=1).ask(requests, progress="")
    assert [reply and reply.value.grade for reply in replies] == [1] * 7 + [None] + [1] * 12


@pytest.mark.parametrize(
    "fault",
    [
        Said("Loading model", status=503),
        Said("Overloaded", status=529),
        Said(body=b'{"error": {"message": "slow down", "code": 429}}'),
        Said(body=b'{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}'),
    ],
    ids=["503", "529", "429 in 200", "overloaded in 200"],
)
def test_a_busy_server_uses_up_no_try_whatever_its_words(fault: Said) -> None:
    with serving(lambda _, before: fault if not before else Said("Yes.")) as server:
        client = client_of(server, retries=0, concurrency=2)
        assert ask(client, 2) == [Reply("Yes.", 7, 3, True)] * 2
        assert client.bought.requests == 2
        assert client.buyer.pace.halved_at > 0
