import hashlib
import json
import multiprocessing
import time
from collections import Counter
from email.utils import formatdate
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from conftest import user
from endpoints import Answering, Said, Server, serving
from ladder.generation import Endpoint
from ladder.judge_endpoint import backoff, retry_after
from ladder.judging import Judge, Judging, load_judge
from ladder.run import Refused, fit
from ladder.verdicts import RATINGS, Scale, parse_rating

NOWHERE = Path("none")


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "work"))
    return tmp_path / "work" / "replies"


def judge_of(server: Server, *, retries: int = 3, concurrency: int = 4, timeout: float = 20, **params: int) -> Judge:
    endpoint = Endpoint(
        base_url=server.base_url, model="big", concurrency=concurrency, retries=retries, timeout=timeout
    )
    return load_judge(Judging(endpoint=endpoint, **params), NOWHERE, NOWHERE)


def asked(count: int) -> list[list[dict[str, str]]]:
    return [user(f"Grade {number}.") for number in range(count)]


def says(*replies: Said) -> Answering:
    """Each request is answered by these in turn, the last one for ever."""
    return lambda _, before: replies[min(before, len(replies) - 1)]


def test_verdicts_stand_in_the_order_asked_and_a_second_run_buys_nothing() -> None:
    def number(asked: dict, _: int) -> Said:
        return Said(f"Rating: [[{asked['messages'][0]['content'][6:-1]}]]")

    with serving(number) as server:
        first, second = judge_of(server), judge_of(server)
        wanted = [None, *map(float, range(1, 11))]  # a rating of 0 is none
        assert first.rate(asked(11), progress="") == wanted
        assert len(server.asked) == 10 + 3  # the 0 is asked for again, twice
        assert second.rate(asked(11), progress="") == wanted
        assert len(server.asked) == 13
        assert first.record("T") == second.record("T")
        assert first.record("T") == {
            "judge": "big",
            "base_url": server.base_url,
            "template_sha256": hashlib.sha256(b"T").hexdigest(),
            "asked": 11,
            "unparseable": 1,
            "replies": 13,
            "cut": 0,
            "prompt_tokens": 91,
            "tokens": 39,
        }


def test_what_decides_a_reply_is_what_it_is_kept_by() -> None:
    with serving(says(Said())) as server:
        for change in ({}, {"max_new_tokens": 9}, {"temperature": 1}):
            judge_of(server, **change).rate(asked(1), progress="")
        assert len(server.asked) == 3
        assert [one["max_tokens"] for one in server.asked] == [1024, 9, 1024]
        assert [one["temperature"] for one in server.asked] == [0, 0, 1]
    with serving(says(Said())) as other:  # another address is another judge
        judge_of(other).rate(asked(1), progress="")
        assert len(other.asked) == 1


def test_the_same_request_is_bought_once() -> None:
    with serving(says(Said())) as server:
        assert judge_of(server).rate(asked(1) * 20, progress="") == [5.0] * 20
        assert len(server.asked) == 1


def test_an_unparseable_reply_is_asked_for_again_at_a_temperature() -> None:
    with serving(says(Said("fine"), Said(None), Said("[[7]]"))) as server:
        judge = judge_of(server)
        assert judge.rate(asked(1), progress="") == [7.0]
        assert [one["temperature"] for one in server.asked] == [0, 0.5, 0.5]
        assert [one["seed"] for one in server.asked] == [0, 1, 2]
        assert judge.unparseable == 0


def test_a_reply_cut_at_its_limit_is_counted() -> None:
    with serving(says(Said("The answer is", finish="length"))) as server:
        judge = judge_of(server)
        assert judge.rate(asked(2), progress="") == [None, None]
        assert (judge.unparseable, judge.cut, judge.replies) == (2, 6, 6)


@pytest.mark.parametrize(
    "fault",
    [
        Said("busy", status=429),
        Said("broken", status=500),
        Said("overloaded", status=529),
        Said(body=b"<html>busy</html>"),
        Said(body=b'{"choices": []}'),
        Said(cut=20),
    ],
    ids=["429", "500", "529", "html", "no choice", "cut body"],
)
def test_what_passes_by_itself_is_tried_again(fault: Said) -> None:
    with serving(says(fault, Said())) as server:
        assert judge_of(server).rate(asked(4), progress="") == [5.0] * 4
        assert len(server.asked) == 8


def test_a_server_that_hangs_is_tried_again_after_the_timeout() -> None:
    with serving(says(Said(hang=True), Said())) as server:
        assert judge_of(server, timeout=0.3).rate(asked(2), progress="") == [5.0] * 2
        assert len(server.asked) == 4
        server.answering = says(Said(hang=True))
        with pytest.raises(Refused, match="gave no answer in 0.3 s"):
            judge_of(server, timeout=0.3, retries=0).rate(asked(3), progress="")


def test_retry_after_holds_every_request_back() -> None:
    times: list[float] = []

    def limited(*_: object) -> Said:
        times.append(time.monotonic())
        if len(times) == 1:
            return Said("slow down", status=429, headers={"Retry-After": "0.5"})
        return Said(latency=0.2)

    with serving(limited) as server:
        assert judge_of(server).rate(asked(12), progress="") == [5.0] * 12
        assert len(server.asked) == 13
    assert min(times[4:]) - times[0] >= 0.5  # four were under way when it said so


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
        (Said("later", status=429, headers={"Retry-After": "7200"}), "asks to come back in 7200 s; what was bought"),
        (
            Said(body=b'{"error": {"message": "pay", "code": "insufficient_quota"}}', status=429),
            "answered 429: .*pay",
        ),
    ],
)
def test_what_does_not_pass_is_refused_at_once(fault: Said, said: str) -> None:
    with serving(says(fault)) as server:
        with pytest.raises(Refused, match=said):
            judge_of(server, concurrency=1).rate(asked(5), progress="")
        assert len(server.asked) == 1


def test_a_server_that_never_recovers_is_refused_after_the_retries() -> None:
    with serving(says(Said("broken", status=500))) as server:
        with pytest.raises(Refused, match="answered 500: .*broken"):
            judge_of(server, retries=1).rate(asked(1), progress="")
        assert len(server.asked) == 2
    with pytest.raises(Refused, match="cannot be reached"):
        judge_of(server, retries=0).rate(asked(2), progress="")  # it is closed


def test_a_request_longer_than_the_context_is_unparseable() -> None:
    too_long = Said(body=b'{"error": {"message": "long", "code": "context_length_exceeded"}}', status=400)
    with serving(lambda asked, _: too_long if "0" in asked["messages"][0]["content"] else Said()) as server:
        assert judge_of(server, retries=0).rate(asked(2), progress="") == [None, 5.0]


def test_an_error_costs_nothing_that_was_under_way() -> None:
    def one_bad(asked: dict, _: int) -> Said:
        bad = asked["messages"] == user("Grade 3.")
        return Said("no", status=400) if bad else Said(latency=0.2)

    with serving(one_bad) as server:
        with pytest.raises(Refused, match="answered 400"):
            judge_of(server).rate(asked(10), progress="")
        assert Counter(server.answered) == Counter(f"Grade {number}." for number in range(4))
        server.answering = says(Said())
        assert judge_of(server).rate(asked(10), progress="") == [5.0] * 10
        assert len(server.asked) == 4 + 7


def test_no_more_at_once_than_the_endpoint_says() -> None:
    with serving(says(Said(latency=0.02))) as server:
        judge_of(server, concurrency=5).rate(asked(40), progress="")
        assert server.most == 5


def test_requests_per_minute_are_kept() -> None:
    times: list[float] = []

    def noted(*_: object) -> Said:
        times.append(time.monotonic())
        return Said()

    with serving(noted) as server:
        started = time.monotonic()
        judge_of(server, requests_per_minute=600).rate(asked(5), progress="")
    assert all(asked - started >= 0.1 * number for number, asked in enumerate(times))


def test_a_budget_of_requests_stops_and_the_next_run_goes_on() -> None:
    with serving(says(Said())) as server:
        for bought in (8, 16):
            with pytest.raises(Refused, match="judge big: its budget of 8 requests is used up; .* run again"):
                judge_of(server, budget_requests=8).rate(asked(20), progress="")
            assert len(server.asked) == bought
        assert judge_of(server, budget_requests=8).rate(asked(20), progress="") == [5.0] * 20
        assert len(server.asked) == 20


def test_a_budget_of_tokens_stops() -> None:
    with serving(says(Said())) as server:
        with pytest.raises(Refused, match="budget of 25 tokens"):
            judge_of(server, budget_tokens=25, concurrency=1).rate(asked(20), progress="")
        assert len(server.asked) == 3  # of 10 tokens each


def grade_twenty(server: Server) -> None:
    """What a process of its own does."""
    assert judge_of(server, retries=0).rate(asked(20), progress="") == [5.0] * 20


def started(server: Server) -> BaseProcess:
    process = multiprocessing.get_context("fork").Process(target=grade_twenty, args=(server,), daemon=True)
    process.start()
    return process


def test_killed_in_the_middle_and_run_again_buys_nothing_twice(own_store: Path) -> None:
    def half(asked: dict, _: int) -> Said:
        return Said(hang=int(asked["messages"][0]["content"][6:-1]) >= 10)

    with serving(half) as server:
        killed = started(server)
        while not (stores := list(own_store.glob("*.jsonl"))) or stores[0].read_bytes().count(b"\n") < 10:
            assert killed.is_alive()
        killed.kill()
        killed.join()
        server.answering = says(Said())
        grade_twenty(server)
        assert Counter(server.answered) == Counter(f"Grade {number}." for number in range(20))


def test_two_processes_at_once_buy_nothing_twice() -> None:
    with serving(says(Said(latency=0.1))) as server:
        both = [started(server) for _ in range(2)]
        for process in both:
            process.join()
        assert [process.exitcode for process in both] == [0, 0]
        assert len(server.asked) == 20
        assert server.most == 4


def test_the_key_is_sent_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    key = "sk-very-secret-0123456789"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with serving(says(Said(f"{key} [[5]]"))) as server:  # a server that gives it back
        judge = judge_of(server)
        assert judge.rate(asked(3), progress="judging") == [5.0] * 3
        assert set(server.keys) == {f"Bearer {key}"}
        server.answering = says(Said(f"wrong key {key}", status=401))
        with pytest.raises(Refused) as refused:
            judge.rate(asked(4), progress="judging")
    shown = [str(refused.value), json.dumps(judge.record("T")), *capfd.readouterr()]
    kept = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(kept) == 2  # the store and its lock
    assert not any(key in text for text in shown + kept)
    assert "wrong key <OPENAI_API_KEY>" in shown[0]


def test_the_section_takes_no_key_and_no_budget_without_an_endpoint() -> None:
    server = {"base_url": "https://host/v1", "model": "m"}
    for wrong, said in [
        ({"endpoint": {**server, "api_key": "k"}}, "judge.endpoint.api_key: no such key"),
        ({"endpoint": {**server, "base_url": "https://user:k@host/v1"}}, "endpoint.base_url holds a user"),
        ({"endpoint": {**server, "base_url": "https://host/v1?key=k"}}, "endpoint.base_url holds a user"),
        ({"budget_requests": 5}, "budget_requests is of an endpoint"),
    ]:
        with pytest.raises(Refused, match=said):
            fit(Judging, wrong, "judge")


def test_any_form_of_reply_and_choices() -> None:
    with serving(says(Said("A or B? [[B]]"))) as server:
        judge = judge_of(server)
        assert judge.choose(asked(2), progress="") == ["B", "B"]
        assert judge.ask(asked(2), str.upper, progress="") == ["A OR B? [[B]]"] * 2
        assert len(server.asked) == 2
        assert judge.choose(asked(1), Scale(("X", "Y"), "[["), progress="") == [None]
        assert judge.rate(asked(1), RATINGS, progress="") == [parse_rating("[[B]]")] == [None]
