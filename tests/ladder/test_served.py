"""The client against a server of another project: `transformers serve`, on the pico model."""

import importlib.util
import json
import shutil
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from conftest import user
from ladder.chat.encode import prompt_tokens
from ladder.inference.client import Client, Request, seeded
from ladder.inference.endpoint import UNBOUNDED, Endpoint
from ladder.inference.local import engine_of
from ladder.inference.types import Sampling
from ladder.models.checkpoint import load
from ladder.pipeline.stage import Config

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("fastapi", "uvicorn")),
    reason="`transformers serve` needs fastapi and uvicorn: transformers[serving]",
)


@pytest.fixture
def served(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    from transformers.cli.serve import Serve

    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "work"))
    model = tmp_path / "model"
    shutil.copytree(base, model)
    # Whatever the temperature, it samples only where the model's own settings specify it.
    settings = json.loads((model / "generation_config.json").read_text())
    (model / "generation_config.json").write_text(json.dumps({**settings, "do_sample": True}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Serve(str(model), host="127.0.0.1", port=port, device="cpu", dtype="float32", non_blocking=True)
    try:
        while not healthy(port):
            assert server._thread.is_alive()
        where = f"http://127.0.0.1:{port}/v1"
        yield Endpoint(base_url=where, model=str(model), concurrency=4, timeout=60, max_failed=1)
    finally:
        server.kill_server()


def healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


class Verdict(Config):
    grade: int


def test_a_real_server_is_asked_and_says_what_the_model_says(served: Endpoint, base: Path) -> None:
    conversations = [user("One?"), user("Two, and a little more?")]
    greedy, drawn = Sampling(max_new_tokens=8), Sampling(temperature=1.0, max_new_tokens=8)
    client = Client(served, UNBOUNDED)
    replies = client.ask([Request(messages, greedy) for messages in conversations], progress="")
    rung = load(base, base, dtype=torch.float32)
    said = engine_of(rung).generate(conversations, greedy)
    for reply, wanted, messages in zip(replies, said, conversations, strict=True):
        assert reply
        assert reply.prompt_tokens == len(prompt_tokens(rung.tokenizer, messages))
        assert (reply.tokens, reply.finished) == (wanted.tokens, wanted.finished)
        assert reply.text.strip() == wanted.text
    samples = client.ask(seeded(conversations[:1] * 4, drawn), progress="")
    assert len({reply.text for reply in samples if reply}) == 4
    assert client.ask([Request(conversations[0], greedy, Verdict)], progress="") == [None]  # it writes no JSON
    assert client.rejected == 1
    assert client.bought.requests == 2 + 4 + 2
    again = Client(served, UNBOUNDED)
    assert again.ask(seeded(conversations[:1] * 4, drawn), progress="") == samples
    assert again.bought.requests == 0
