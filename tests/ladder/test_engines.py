"""One prompt, one answer, whatever the engine: a real OpenAI-compatible server against generation in process."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from conftest import user
from ladder.generation import Endpoint, answer, ask
from ladder.models import load
from ladder.sampling import Sampling

ASKED = [user(text) for text in ("Hi", "What is rain?", "Name a colour that is not red.", "Zwölf Boxkämpfer?")]
LIMIT = 40


@pytest.fixture
def endpoint(base: Path) -> Iterator[Endpoint]:
    """`transformers serve` with the pico model, in float32, in this process."""
    pytest.importorskip("fastapi", reason="the server needs transformers[serving]")
    pytest.importorskip("uvicorn", reason="the server needs transformers[serving]")
    from transformers.cli.serve import Serve

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Serve(str(base), device="cpu", dtype="float32", host="127.0.0.1", port=port, non_blocking=True)
    yield Endpoint(base_url=f"http://127.0.0.1:{port}/v1", model=str(base))
    server.kill_server()


def test_a_server_gives_the_answers_made_in_process(base: Path, endpoint: Endpoint) -> None:
    sampling = Sampling(max_new_tokens=LIMIT)
    here = answer(load(base, base, dtype=torch.float32), ASKED, sampling, progress="")
    assert {one.finished for one in here} == {True, False}
    there = ask(endpoint, ASKED, sampling, progress="")
    assert [one.text for one in there] == [one.text for one in here]
    # A server counts the stop token, and says of an answer that reaches the limit with it that it was cut.
    assert [one.tokens for one in there] == [one.tokens + one.finished for one in here]
    assert [one.finished for one in there] == [one.finished and one.tokens + 1 < LIMIT for one in here]
