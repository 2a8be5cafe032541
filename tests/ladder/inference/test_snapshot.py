"""Decoding that is killed after any step resumes with the next one and gives the same tokens, in bfloat16, where
tokens depend on the other rows of the batch."""

import contextlib
import re
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from test_engine import STOP, pico, prompts

from ladder.inference import snapshot as snapshots
from ladder.inference.engine import decode
from ladder.inference.snapshot import Snapshot, flat, ragged
from ladder.inference.types import Sampling
from ladder.pipeline.stage import UserError

DRAWN = Sampling(0.9, 0.9, max_new_tokens=40, seed=3)
PREFILLS = 2
"""Number of calls that may precede the first step of a run whose slots are free."""
FAMILIES = {"slots": {}, "padded": {"family": "mistral", "sliding_window": 16}}


class Killed(BaseException):
    pass


class Calls:
    """Count a model's calls, and raise in the specified one."""

    def __init__(self, model: Any) -> None:
        self.made, self.last = 0, -1
        model.base_model.register_forward_pre_hook(self.count)

    def count(self, module: Any, inputs: Any) -> None:
        if self.made == self.last:
            raise Killed
        self.made += 1


@pytest.fixture(autouse=True)
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "SHARE", float("inf"))


@pytest.mark.parametrize(("family", "killed_after"), [("slots", 1), ("slots", 17), ("padded", 60)])
def test_the_tokens_are_those_of_an_unbroken_run(
    family: str, killed_after: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kill it repeatedly until it completes; a slot loses its current step, padded batches lose the batch."""
    model = pico(initializer_range=0.1, **FAMILIES[family]).to(torch.bfloat16)
    calls, path = Calls(model), tmp_path / "work/one.state"
    expected = decode(model, prompts(16), DRAWN, stop=STOP, batch=5, first=7)
    unbroken, calls.last, kills, made = calls.made, 3, 0, 0
    answers = None
    while answers is None:
        calls.made = 0
        with contextlib.suppress(Killed):
            answers = decode(model, prompts(16), DRAWN, stop=STOP, batch=5, first=7, snapshot=Snapshot(path))
        kills, made = kills + (answers is None), made + calls.made
        calls.last = killed_after + PREFILLS
    assert answers == expected
    assert kills >= 2
    reported = [
        int(done) for done in re.findall(r"resuming: (\d+) of 16 answers are complete\n", capsys.readouterr().err)
    ]
    assert kills - 1 <= len(reported) <= kills and reported == sorted(reported)
    assert unbroken <= made <= unbroken + kills * (PREFILLS if family == "slots" else DRAWN.max_new_tokens)
    Snapshot(path).drop()
    assert not list(path.parent.iterdir())


def test_a_prompt_is_drawn_for_by_its_place(tmp_path: Path) -> None:
    model = pico(initializer_range=0.1)
    whole = decode(model, prompts(12), DRAWN, stop=STOP)
    assert decode(model, prompts(12)[8:], DRAWN, stop=STOP, first=8) == whole[8:]
    assert decode(model, prompts(12)[8:], DRAWN, stop=STOP) != whole[8:]


def test_a_torn_file_is_reported_and_started_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, path = pico(), tmp_path / "one.state"
    expected = decode(model, prompts(6), DRAWN, stop=STOP, snapshot=Snapshot(path))
    whole = path.read_bytes()
    for torn in (b"", whole[: len(whole) // 2], b"nonsense" * 100):
        path.write_bytes(torn)
        assert decode(model, prompts(6), DRAWN, stop=STOP, snapshot=Snapshot(path)) == expected
        assert capsys.readouterr().err == f"{path}: incomplete; its answers start from the beginning\n"
    torch.save(torch.zeros(3), path)
    assert decode(model, prompts(6), DRAWN, stop=STOP, snapshot=Snapshot(path)) == expected


def test_memory_that_runs_out_goes_on_from_what_was_answered(tmp_path: Path) -> None:
    """The file is read once: its state did not fit into memory."""
    model, path = pico(), tmp_path / "one.state"
    expected = decode(model, prompts(6), DRAWN, stop=STOP)
    calls = Calls(model)
    calls.last = 20
    with pytest.raises(Killed):
        decode(model, prompts(6), DRAWN, stop=STOP, snapshot=Snapshot(path))
    calls.last = -1

    def full(module: Any, inputs: Any, named: Any) -> None:
        if len(named["input_ids"] if "input_ids" in named else inputs[0]) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")

    model.base_model.register_forward_pre_hook(full, with_kwargs=True)
    assert decode(model, prompts(6), DRAWN, stop=STOP, snapshot=Snapshot(path)) == expected
    with pytest.raises(UserError, match="with a batch of 5"):
        decode(model, prompts(6), DRAWN, stop=STOP, batch=5, snapshot=Snapshot(tmp_path / "other"))


def test_a_full_disk_is_reported_and_generation_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    snapshot = Snapshot(tmp_path / "one.state")
    snapshot.keep(lambda: ({}, {}), 2**60)
    assert f"no space for {2**60} bytes" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_quota_that_is_used_up_is_reported_and_generation_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No disk reports how much a user may still write; a limit on file length replaces it here."""
    snapshot = Snapshot(tmp_path / "one.state")
    snapshot.keep(lambda: ({"n": 1}, {}), 0)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limit[1]))
    try:
        for _ in range(2):
            snapshot.keep(lambda: ({"n": 2}, {"cache": torch.zeros(1 << 20)}), 4 << 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    reported = "one.state: cannot be written (a full disk, or a quota); a kill would lose answers from now on\n"
    assert capsys.readouterr().err == f"{tmp_path}/{reported}"
    assert [path.name for path in tmp_path.iterdir()] == ["one.state"]
    assert Snapshot(tmp_path / "one.state").read(torch.device("cpu")) == ({"n": 1}, {})


def test_saving_takes_a_small_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "SHARE", 0.03)
    snapshot = Snapshot(tmp_path / "one.state")
    snapshot.keep(lambda: ({}, flat([[1]])), 10**12)
    assert not list(tmp_path.iterdir())


def test_lists_as_tensors_and_back() -> None:
    lists = [[3, 1], [], [2**17], []]
    assert ragged(flat(lists)) == lists
    assert ragged(flat([])) == []
