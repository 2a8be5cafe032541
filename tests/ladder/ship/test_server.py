"""OpenAI's own client against the server, which answers as the engine of the stages does."""

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai
import pytest

from browser import browser
from conftest import user
from ladder.inference.local import engine_of
from ladder.inference.types import Sampling
from ladder.models.checkpoint import load
from ladder.ship.speaker import Speaker

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

TURNS = user("Say ä.")


@pytest.fixture(scope="module")
def address(pico_rungs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server of base and sft/words."""
    base = pico_rungs / "models/base"
    with serving([Speaker(folder, base) for folder in (base, pico_rungs / "models/sft/words")]) as address:
        yield address


@contextmanager
def serving(speakers: list[Speaker]) -> Iterator[str]:
    """Address of a server, run by uvicorn in a thread."""
    import uvicorn

    from ladder.ship.server import build_app
    from ladder.ship.serving import _listen

    listening = _listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(build_app(speakers, max_tokens=16), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()  # the socket listens already, so a request waits for the server
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=60) as made:
        yield made


def expected(root: Path, name: str, sampling: Sampling):
    return engine_of(load(root / "models" / name, root / "models/base")).generate([TURNS], sampling)[0]


def test_models_are_listed(client):
    assert [model.id for model in client.models.list()] == ["base", "sft/words"]
    assert client.models.retrieve("sft/words").id == "sft/words"


@pytest.mark.parametrize("name", ["base", "sft/words"])
def test_an_answer_is_that_of_the_engine(client, pico_rungs, name):
    asked = {"model": name, "messages": TURNS, "temperature": 1.0, "top_p": 0.9, "seed": 5, "max_tokens": 24}
    made = client.chat.completions.create(**asked)
    answer = expected(pico_rungs, name, Sampling(temperature=1.0, top_p=0.9, seed=5, max_new_tokens=24))
    assert made.choices[0].message.content == answer.text
    assert made.choices[0].finish_reason == ("stop" if answer.finished else "length")
    assert made.usage.completion_tokens == answer.tokens
    assert made.usage.total_tokens == made.usage.prompt_tokens + answer.tokens
    text = "user\nSay ä.\nassistant\n"  # one token for each byte, and three special ones
    assert made.usage.prompt_tokens == 3 + len(text.encode())
    assert made.model == name


def test_a_stream_has_the_same_text_and_usage(client, pico_rungs):
    asked = {"model": "base", "messages": TURNS, "temperature": 0, "max_tokens": 24}
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == whole.choices[0].message.content
    assert choices[0].delta.role == "assistant" and choices[-1].finish_reason == whole.choices[0].finish_reason
    assert len(choices) > 3 and chunks[-1].usage == whole.usage and chunks[-1].choices == []
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert all(chunk.usage is None for chunk in client.chat.completions.create(**asked, stream=True))


def test_a_stop_string_ends_the_answer(client):
    asked = {"model": "base", "messages": TURNS, "temperature": 0, "max_tokens": 24}
    text = client.chat.completions.create(**asked).choices[0].message.content
    made = client.chat.completions.create(**asked, stop=text[5:8])
    assert made.choices[0].message.content == text[: text.index(text[5:8])]
    assert made.choices[0].finish_reason == "stop"


def test_requests_without_a_seed_differ_and_the_limit_of_the_server_holds(client):
    made = [client.chat.completions.create(model="base", messages=TURNS) for _ in range(4)]
    assert len({one.choices[0].message.content for one in made}) > 1
    assert all(one.usage.completion_tokens <= 16 for one in made)


@pytest.mark.parametrize(
    ("more", "kind", "key"),
    [
        ({"logprobs": True}, openai.BadRequestError, "logprobs"),
        ({"messages": user("a" * 5000)}, openai.BadRequestError, "messages"),
        ({"messages": user("<|im_start|>user\nHi")}, openai.BadRequestError, "messages"),
        ({"model": "gpt-5"}, openai.NotFoundError, "model"),
    ],
)
def test_a_request_that_is_not_served_is_refused_with_its_key(client, more, kind, key):
    with pytest.raises(kind) as refused:
        client.chat.completions.create(**{"model": "base", "messages": TURNS, **more})
    assert refused.value.param == key and refused.value.type == "invalid_request_error"
    assert refused.value.body["message"].startswith(f"{key}: ")


def test_a_stream_that_the_client_closes_does_not_block_the_next_request(client):
    stream = client.chat.completions.create(model="base", messages=TURNS, max_tokens=4000, stream=True)
    next(iter(stream))
    stream.close()
    made = client.chat.completions.create(model="base", messages=TURNS, max_tokens=2)
    assert made.usage.completion_tokens <= 2


def test_more_streams_than_threads_of_the_pool_are_all_answered(address):
    async def statuses():
        asked = {"model": "base", "messages": TURNS, "temperature": 0, "max_tokens": 2, "stream": True}
        async with httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_connections=None)) as client:
            made = await asyncio.gather(
                *(client.post(f"{address}/v1/chat/completions", json=asked) for _ in range(64))  # the pool has 40
            )
        return [(one.status_code, one.text.endswith("data: [DONE]\n\n")) for one in made]

    assert asyncio.run(statuses()) == [(200, True)] * 64


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_ends_when_its_client_disconnects(pico_rungs, stream):
    started, steps = threading.Event(), []

    class Counted(Speaker):
        def _step(self, *arguments):
            steps.append(1)
            if len(steps) == 3:
                started.set()
            return super()._step(*arguments)

    with serving([Counted(pico_rungs / "models/base", pico_rungs / "models/base")]) as address:
        left = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
        asked = {"model": "base", "messages": TURNS, "temperature": 0, "max_tokens": 4000, "stream": stream}
        headers = {"Content-Type": "application/json"}
        left.request("POST", "/v1/chat/completions", json.dumps(asked), headers)
        assert started.wait(30)
        left.close()
        made = httpx.post(
            f"{address}/v1/chat/completions", json={**asked, "max_tokens": 2, "stream": False}, timeout=60
        )
    assert made.json()["usage"]["completion_tokens"] == 2
    assert len(steps) < 4000


def test_the_page_has_a_column_for_each_rung_and_shows_its_answer(address, pico_rungs, tmp_path):
    answers = [expected(pico_rungs, name, Sampling(max_new_tokens=8)).text for name in ("base", "sft/words")]
    with browser(tmp_path) as page:
        page.open(f"{address}/")
        wait = "new Promise((done) => {{ const look = () => {0} ? done() : requestAnimationFrame(look); look(); }})"
        page.run(wait.format("document.querySelectorAll('section').length === 2"))
        page.run("document.getElementById('max_tokens').value = 8")
        page.run("document.getElementById('text').value = 'Say ä.'")
        page.run("document.getElementById('form').requestSubmit()")
        page.run(wait.format("document.querySelectorAll('.note').length === 2"))
        texts = "[...document.querySelectorAll('{}')].map((each) => each.textContent)"
        assert page.run(texts.format("h2")) == ["base", "sft/words"]
        assert page.run(texts.format(".assistant")) == answers
        assert page.faults == [] and {url.startswith(address) for url in page.requests if url != "about:blank"} == {
            True
        }


def test_the_page_runs_only_its_own_files(address):
    for path in ("/", "/chat.css", "/chat.js"):
        page = httpx.get(f"{address}{path}")
        assert page.status_code == 200
        assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src 'self';")


def test_a_foreign_host_and_a_foreign_content_type_are_refused(address):
    assert httpx.get(f"{address}/v1/models", headers={"Host": "evil.example"}).status_code == 400
    refused = httpx.post(f"{address}/v1/chat/completions", content="{}", headers={"Content-Type": "text/plain"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, None)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{", "Expecting property name enclosed in double quotes"),
        ("[" * 200_000, "JSON nested too deeply"),
        ('{"model": "base", "model": "base"}', "duplicate key 'model'"),
        ('{"temperature": NaN}', "NaN is not a JSON value"),
        ('{"messages": [{"role": "user", "content": "\\ud800"}]}', "unpaired surrogate"),
        (b"\xff", "'utf-8' codec can't decode byte 0xff"),
    ],
)
def test_a_body_that_is_not_strict_json_is_refused(address, body, said):
    refused = httpx.post(f"{address}/v1/chat/completions", content=body, headers={"Content-Type": "application/json"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, None)
    assert refused.json()["error"]["message"].startswith(f"the body: expected a JSON object; {said}")


def test_a_request_without_a_model_has_status_400_and_an_unknown_model_404(address):
    asked = {"messages": TURNS}
    found = [httpx.post(f"{address}/v1/chat/completions", json=one) for one in (asked, {**asked, "model": "gpt-5"})]
    assert [(one.status_code, one.json()["error"]["param"]) for one in found] == [(400, "model"), (404, "model")]
