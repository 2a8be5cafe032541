"""Stage generate against an endpoint: with changed data, stopped by its budget, and searched for the key."""

from pathlib import Path
from typing import Any

import pytest

from conftest import user
from endpoints import Said, Server, serving
from ladder.data.jsonl import Row, read_json, read_rows, write_rows
from ladder.inference.client import client_of
from ladder.inference.endpoint import Budget, Endpoint
from ladder.pipeline.stage import UserError, fit
from stages.generate import Params, main

KEY = "sk-very-secret-0123456789"
DRAWS = {"split": None, "samples": 2, "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 5, "seed": 0, "edits": False}


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "work"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def generate(folder: Path, server: Server, count: int, budget: Budget | None = None) -> list[Row]:
    """Run the stage as a separate process would, on `count` prompts."""
    client_of.cache_clear()
    rows = [
        {"id": str(n), "prompt": user(f"Say {n}."), "checks": [{"kind": "words_at_most", "n": 3}]} for n in range(count)
    ]
    write_rows(folder / "prompts.jsonl", rows)
    endpoint = Endpoint(base_url=server.base_url, model="big", concurrency=4, retries=0)
    params = Params(prompts="prompts", model="base", endpoint=endpoint, budget=budget or Budget(), **DRAWS)  # type: ignore[arg-type]
    nowhere = folder / "none"
    main(params, folder / "prompts.jsonl", nowhere, nowhere, folder / "rows.jsonl", folder / "rows.json")
    return read_rows(folder / "rows.jsonl")


def echo(body: Row, _: int) -> Said:
    return Said(f"{body['messages'][0]['content']} {body['seed']}")


def test_a_change_of_the_rows_buys_only_what_is_new(tmp_path: Path) -> None:
    with serving(echo) as server:
        first = generate(tmp_path, server, 4)
        assert len({row["completion"][0]["content"] for row in first}) == len(server.asked) == 8
        assert {row["model"] for row in first} == {"big"}
        assert read_json(tmp_path / "rows.json")["model"] == "big"
        assert generate(tmp_path, server, 5)[:8] == first
        assert len(server.asked) == 10


def test_a_run_in_parts_ends_in_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(echo) as server:
        for _ in range(2):
            with pytest.raises(UserError, match="big: the budget of 3 requests is spent. .* run again"):
                generate(tmp_path, server, 4, Budget(requests=3))
            assert not (tmp_path / "rows.jsonl").exists()
        generate(tmp_path, server, 4, Budget(requests=3))
        assert len(server.asked) == 8
        unbroken = tmp_path / "unbroken"
        monkeypatch.setenv("LADDER_WORK", str(unbroken))
        generate(unbroken, server, 4)
        assert len(server.asked) == 16
    for name in ("rows.jsonl", "rows.json"):
        assert (tmp_path / name).read_bytes() == (unbroken / name).read_bytes()


def test_the_key_is_in_no_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with serving(lambda body, _: Said(f"{KEY} is your key.")) as server:
        generate(tmp_path, server, 2)
        assert set(server.keys) == {f"Bearer {KEY}"}
    kept = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(kept) == 5  # prompts, rows, metrics, the store and its lock
    assert not any(KEY in text for text in [*kept, *capfd.readouterr()])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"budget": {"tokens": 5}}, "budget: no effect without an endpoint"),
        ({"endpoint": {"base_url": "https://host/v1", "model": "m"}, "budget": {"money": 1}}, "needs endpoint.prices"),
        ({"endpoint": {"base_url": "https://host/v1", "model": "m", "api_key": KEY}}, "endpoint.api_key: no such key"),
    ],
)
def test_a_section_that_cannot_be_kept_is_refused(changed: dict[str, Any], said: str) -> None:
    section = {"prompts": "prompts", "model": "base", "endpoint": None, **DRAWS, **changed}
    with pytest.raises(UserError, match=said) as refused:
        fit(Params, section, "generate.chat")
    assert KEY not in str(refused.value)
