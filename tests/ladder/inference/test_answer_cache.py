"""Generation that is killed and run again: the repeated portions, and bytes equal to an uninterrupted run."""

import json
import multiprocessing
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaModel

from conftest import user
from ladder.chat.encode import prompt_tokens
from ladder.data.jsonl import write_rows
from ladder.inference import answer_cache, snapshot
from ladder.inference.answer_cache import RungEngine
from ladder.inference.local import TokenEngine, engine_of, spoken
from ladder.inference.types import Answer, Sampling
from ladder.models.checkpoint import load
from stages.generate import Params, main

PREFILLS = 2
"""Calls of a run that prefill the slots before the first step."""
DRAWN = Sampling(1.0, 1.0, max_new_tokens=5)

DRAWS = {"split": None, "samples": 2, "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 40, "seed": 0, "edits": True}


def run(base: Path, folder: Path, portion: int, killed_at: int) -> None:
    """Stage generate, which saves at every step, kills itself in a call of the model, or prints the number of calls."""
    torch.set_num_threads(1)
    os.environ["LADDER_WORK"] = str(folder / "work")
    snapshot.SHARE, answer_cache.PORTION, calls = float("inf"), portion, 0

    def count(module: Any, inputs: Any) -> None:
        nonlocal calls
        if isinstance(module, LlamaModel):
            if calls == killed_at:
                os.kill(os.getpid(), signal.SIGKILL)
            calls += 1

    torch.nn.modules.module.register_module_forward_pre_hook(count)
    params = Params(prompts="prompts", model="base", endpoint=None, **DRAWS)  # type: ignore[arg-type]
    main(params, folder.parent / "prompts.jsonl", base, base, folder / "rows.jsonl", folder / "rows.json")
    (folder / "calls").write_text(str(calls))


@pytest.mark.parametrize("portion", [8192, 8])
def test_a_killed_generation_goes_on_to_the_same_bytes(
    server: multiprocessing.context.ForkServerContext, portion: int, tmp_path: Path, base: Path
) -> None:
    checks = [{"kind": "words_at_most", "n": 3}]
    prompts = [{"id": f"{n}", "prompt": user("Say it. " * n), "checks": checks} for n in range(12)]
    write_rows(tmp_path / "prompts.jsonl", prompts)

    def generate(name: str, killed_at: int) -> int | None:
        process = server.Process(target=run, args=(base, tmp_path / name, portion, killed_at))
        process.start()
        process.join()
        return process.exitcode

    assert generate("unbroken", -1) == 0
    calls = left = int((tmp_path / "unbroken/calls").read_text())
    for share in (0.3, 0.5):
        assert generate("killed", int(share * calls)) == -signal.SIGKILL
        assert [path.name for path in (tmp_path / "killed").iterdir()] == ["work"]
        left -= int(share * calls)
    assert generate("killed", -1) == 0
    assert left <= int((tmp_path / "killed/calls").read_text()) <= left + 2 * PREFILLS
    for name in ("rows.jsonl", "rows.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes()
    for name in ("unbroken", "killed"):
        kept = [
            path
            for path in (tmp_path / name / "work" / "replies").rglob("*")
            if path.is_file() and path.suffix != ".lock"
        ]
        portions = [json.loads(line)[1]["answers"] for line in kept[0].read_text().splitlines()]
        assert (len(kept), len(portions), sum(map(len, portions))) == (1, -(-24 // portion), 24)


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The conversations that a model received since it was last cleared; portions of two."""
    texts: list[str] = []

    generate = TokenEngine.generate

    def reported(self: TokenEngine, conversations: Any, *rest: Any, **named: Any) -> Any:
        texts.extend(messages[0]["content"] for messages in conversations)
        return generate(self, conversations, *rest, **named)

    monkeypatch.setattr(TokenEngine, "generate", reported)
    monkeypatch.setattr(answer_cache, "PORTION", 2)
    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "work"))
    return texts


def say(base: Path, words: str, sampling: Sampling = DRAWN) -> list[Answer]:
    return list(RungEngine(base, base).generate([user(word) for word in words], sampling))


def test_a_change_of_the_prompts_asks_its_portion_and_what_is_new(asked: list[str], base: Path) -> None:
    first = say(base, "abcde")
    assert asked == list("abcde")
    assert first == engine_of(load(base, base)).generate([user(word) for word in "abcde"], DRAWN)
    asked.clear()
    for words, new in (("abcde", ""), ("abcdefg", "efg"), ("abxdefg", "xd"), ("zabcde", "zabcde")):
        asked.clear()
        say(base, words)
        assert asked == list(new)
    assert say(base, "abcdefg")[:5] == first


def test_other_settings_are_other_answers(asked: list[str], base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = say(base, "ab")
    assert say(base, "ab", Sampling(1.0, 1.0, max_new_tokens=5, seed=1)) != first
    monkeypatch.setattr(answer_cache, "code", lambda engine: "of another day")
    assert say(base, "ab") == first
    assert asked == list("ababab")


def test_a_torn_file_is_reported_and_its_portion_asked_again(
    asked: list[str], base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = say(base, "abcd")
    (path,) = (tmp_path / "work/replies").glob("*.jsonl")
    whole = path.read_bytes()
    one, two = whole.splitlines(keepends=True)
    for torn, again, reported in (
        (b"", "abcd", ""),
        (whole[:-3], "cd", ""),  # killed while writing
        (one, "cd", ""),
        (one[:50] + b"\n" + two, "ab", f"{path}: 1 damaged line ignored; their requests are sent again\n"),
    ):
        asked.clear()
        path.write_bytes(torn)
        assert say(base, "abcd") == first
        assert asked == list(again)
        assert capsys.readouterr().err == reported
        asked.clear()
        assert say(base, "abcd") == first and asked == []
        capsys.readouterr()


def test_two_at_once_answer_once(asked: list[str], base: Path) -> None:
    with ThreadPoolExecutor(2) as both:  # flock locks an open file, so it also works within one process
        first, second = both.map(lambda _: say(base, "abcd"), range(2))
    assert first == second
    assert sorted(asked) == list("abcd")


def test_answers_are_decoded_completions_of_the_rendered_prompts(asked: list[str], base: Path) -> None:
    loaded = load(base, base)
    prompts = [prompt_tokens(loaded.tokenizer, user(word)) for word in "ab"]
    completions = engine_of(loaded).complete(prompts, DRAWN)
    assert spoken(loaded.tokenizer, completions, prompts) == say(base, "ab")


def test_engines_do_not_share_answers(asked: list[str], base: Path) -> None:
    conversations = [user(word) for word in "ab"]
    for engine, new in (("auto", "ab"), ("decoder", ""), ("padded", "ab")):
        asked.clear()
        list(RungEngine(base, base, engine).generate(conversations, DRAWN))  # type: ignore[arg-type]
        assert asked == list(new)
