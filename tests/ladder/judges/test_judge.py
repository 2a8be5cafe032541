import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from conftest import user
from endpoints import Said, Server, says, serving
from ladder.inference.endpoint import Budget, Endpoint
from ladder.judges.judge import Judge, Judging, load_judge
from ladder.judges.parsers import RATINGS, Scale, parse_rating
from ladder.pipeline.stage import Config, UserError, fit

pytestmark = pytest.mark.usefixtures("work")

NOWHERE = Path("none")


def judge_of(server: Server, **params: Any) -> Judge:
    endpoint = Endpoint(base_url=server.base_url, model="big", concurrency=4, retries=0, timeout=20)
    return load_judge(Judging(endpoint=endpoint, **params), NOWHERE, NOWHERE)


def asked(count: int) -> list[list[dict[str, str]]]:
    return [user(f"Grade {number}.") for number in range(count)]


def test_verdicts_stand_in_the_order_asked_and_a_second_run_buys_nothing() -> None:
    def number(asked: dict, _: int) -> Said:
        return Said(f"Rating: [[{asked['messages'][0]['content'][6:-1]}]]")

    with serving(number) as server:
        first, second = judge_of(server), judge_of(server)
        wanted = [None, *map(float, range(1, 11))]  # 0 is not a rating
        assert first.rate(asked(11), progress="") == wanted
        assert len(server.asked) == 10 + 3  # the 0 is requested again, twice
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
    with serving(says(Said())) as moved:  # the same model at another address
        judge_of(moved).rate(asked(1), progress="")
        assert len(moved.asked) == 0


def test_the_same_request_is_bought_once() -> None:
    with serving(says(Said())) as server:
        assert judge_of(server).rate(asked(1) * 20, progress="") == [5.0] * 20
        assert len(server.asked) == 1


def test_an_unparseable_reply_is_asked_for_again_at_a_temperature() -> None:
    with serving(says(Said("fine"), Said(None), Said("[[7]]"))) as server:
        judge = judge_of(server)
        assert judge.rate(asked(1), progress="") == [7.0]
        assert [one["temperature"] for one in server.asked] == [0, 0.5, 0.5]
        assert [one.get("seed") for one in server.asked] == [None, 1, 2]
        assert judge.unparseable == 0


def test_a_reply_cut_at_its_limit_is_counted() -> None:
    with serving(says(Said("The answer is", finish="length"))) as server:
        judge = judge_of(server)
        assert judge.rate(asked(2), progress="") == [None, None]
        assert (judge.unparseable, judge.cut, judge.replies) == (2, 6, 6)


def test_a_request_longer_than_the_context_is_unparseable() -> None:
    too_long = Said(body=b'{"error": {"message": "long", "code": "context_length_exceeded"}}', status=400)
    with serving(lambda asked, _: too_long if "0" in asked["messages"][0]["content"] else Said()) as server:
        assert judge_of(server).rate(asked(2), progress="") == [None, 5.0]


def test_a_budget_of_requests_stops_and_the_next_run_goes_on() -> None:
    with serving(says(Said())) as server:
        for bought in (8, 16):
            with pytest.raises(UserError, match="big: the budget of 8 requests is spent. .* run again"):
                judge_of(server, budget=Budget(requests=8)).rate(asked(20), progress="")
            assert len(server.asked) == bought
        assert judge_of(server, budget=Budget(requests=8)).rate(asked(20), progress="") == [5.0] * 20
        assert len(server.asked) == 20


def test_the_key_is_sent_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    key = "sk-very-secret-0123456789"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with serving(says(Said(f"{key} [[5]]"))) as server:  # a server that echoes the key
        judge = judge_of(server)
        assert judge.rate(asked(3), progress="judging") == [5.0] * 3
        assert set(server.keys) == {f"Bearer {key}"}
        server.answering = says(Said(f"wrong key {key}", status=401))
        with pytest.raises(UserError) as refused:
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
        ({"endpoint": {**server, "base_url": "https://user:k@host/v1"}}, "endpoint.base_url: has a user"),
        ({"budget": {"requests": 5}}, "budget: no effect without an endpoint"),
        ({"endpoint": server, "budget": {"money": 5}}, "budget.money: needs endpoint.prices"),
    ]:
        with pytest.raises(UserError, match=said):
            fit(Judging, wrong, "judge")


def test_any_form_of_reply_and_choices() -> None:
    with serving(says(Said("A or B? [[B]]"))) as server:
        judge = judge_of(server)
        assert judge.choose(asked(2), progress="") == ["B", "B"]
        assert judge.ask(asked(2), str.upper, progress="") == ["A OR B? [[B]]"] * 2
        assert len(server.asked) == 2
        assert judge.choose(asked(1), Scale(("X", "Y"), "[["), progress="") == [None]
        assert judge.rate(asked(1), RATINGS, progress="") == [parse_rating("[[B]]")] == [None]


def test_what_a_reasoning_model_thinks_is_no_verdict() -> None:
    thought = "<think>Is it [[2]] or [[B]]?</think>\n"
    with serving(
        lambda body, _: Said(thought + ("[[5]]" if "Grade" in body["messages"][0]["content"] else "[[A]]"))
    ) as server:
        judge = judge_of(server)
        assert judge.rate(asked(1), progress="") == [5.0]
        assert judge.choose([user("Which?")], progress="") == ["A"]
        assert len(server.asked) == 2
        server.answering = says(Said("<think>Rather [[5]]", finish="length"))
        assert judge.rate(asked(2), progress="") == [5.0, None]


class Grade(Config):
    why: str
    grade: int = Field(ge=1, le=10)


def test_objects_are_asked_for_by_their_schema_repaired_once_a_try_and_counted_where_there_is_none() -> None:
    def writes(body: dict, _: int) -> Said:
        if body["messages"][0]["content"] == "Grade 2.":
            return Said("Ten.", finish="length")
        if body["messages"][0]["content"] == "Grade 1." and len(body["messages"]) == 1:
            return Said("<think>Hm.</think>Eight.")
        return Said('{"why": "short", "grade": 8}')

    with serving(writes) as server:
        judge = judge_of(server, retries=1)
        eight = Grade(why="short", grade=8)
        assert judge.objects(asked(3), Grade, progress="") == [eight, eight, None]
        assert len(server.asked) == 3 + 2 + 2  # one repair for each of two; one more try with its repair for one
        assert {body["response_format"]["json_schema"]["name"] for body in server.asked} == {"Grade"}
        repair = next(body["messages"] for body in server.asked if len(body["messages"]) == 3)
        assert repair[1] in ({"role": "assistant", "content": said} for said in ("Eight.", "Ten."))
        record = judge.record("T")
        assert {name: record[name] for name in ("asked", "unparseable", "replies", "cut", "tokens")} == {
            "asked": 3, "unparseable": 1, "replies": 4, "cut": 2, "tokens": 12
        }  # fmt: skip


def test_requests_that_fail_for_good_are_unparseable_up_to_their_share() -> None:
    broken = Said("no", status=400)
    with serving(lambda body, _: broken if "0" in body["messages"][0]["content"] else Said()) as server:
        endpoint = Endpoint(base_url=server.base_url, model="big", max_failed=0.5)
        judge = load_judge(Judging(endpoint=endpoint), NOWHERE, NOWHERE)
        assert judge.rate(asked(3), progress="") == [None, 5.0, 5.0]
        assert judge.unparseable == 1
        assert len(server.asked) == 3
        with pytest.raises(UserError, match="1 of 3 requests failed, more than the share endpoint.max_failed: 0.01"):
            judge_of(server).rate(asked(3), progress="")
