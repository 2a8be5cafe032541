import itertools
import json
import shutil
import subprocess
import sys

import pytest

from conftest import ROOT
from endpoints import Said, serving
from ladder.data.jsonl import write_rows
from ladder.inference.client import client_of
from ladder.inference.local import TokenEngine
from ladder.models.checkpoint import load, save_rung
from ladder.pipeline.stage import UserError, fit
from stages import answer
from stages.answer import Params, main

TURNS = [["Say 0.", "Again."], ["Say 1."], ["Say 2."]]
ROWS = [{"key": str(n), "turns": said, "group": "g"} for n, said in enumerate(TURNS)]
FOUR, FIVE = {"max_new_tokens": 4}, {"max_new_tokens": 5}


@pytest.fixture
def generated(monkeypatch):
    """The number of conversations of every call of a model."""
    calls, generate = [], TokenEngine.generate

    def count(self, conversations, *rest, **named):
        calls.append(len(conversations))
        return generate(self, conversations, *rest, **named)

    monkeypatch.setattr(TokenEngine, "generate", count)
    return calls


@pytest.fixture
def ask(tmp_path, base, monkeypatch):
    """Ask benchmarks of the same three questions by these entries; returns the output folder's files by name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "work"))

    def asked(model=base, questions=ROWS, output="said", **entries):
        for name in entries:
            write_rows(tmp_path / f"questions/{name}.jsonl", questions)
        section = fit(Params, {**entries, "unasked": FOUR}, "answer")
        main(section, tmp_path / "questions", model, base, tmp_path / output, benchmarks=list(entries))
        return {path.name: path.read_bytes() for path in sorted((tmp_path / output).iterdir())}

    return asked


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Forget all caches, as on another machine."""

    numbers = itertools.count()

    def forget():
        monkeypatch.setenv("LADDER_WORK", str(tmp_path / f"work{next(numbers)}"))

    return forget


def rows(files, name):
    return [json.loads(line) for line in files[f"{name}.jsonl"].splitlines()]


def test_the_first_questions_are_answered_turn_by_turn(ask):
    files = ask(few={"rows": 2, "max_new_tokens": 6}, whole={"max_new_tokens": 6})
    few, whole = rows(files, "few"), rows(files, "whole")
    assert [(row["key"], row["sample"], row["turn"], row["prompt"]) for row in whole] == [
        ("0", 0, 0, "Say 0."), ("0", 0, 1, "Again."), ("1", 0, 0, "Say 1."), ("2", 0, 0, "Say 2."),
    ]  # fmt: skip
    assert few == whole[:3]
    assert set(few[0]) == {"key", "sample", "turn", "prompt", "response", "tokens", "finished"}
    assert all(row["tokens"] == 6 or row["finished"] for row in whole)


def test_only_new_cells_are_asked_where_the_outputs_were_pulled(ask, generated, elsewhere, tmp_path):
    """The caches are empty, as in a fresh clone; each result has the bytes of a run from nothing."""
    ask(one=FOUR, two=FIVE)
    assert generated == [3, 1, 3, 1]
    for entries, new in (
        ({"one": FOUR, "two": FIVE}, []),
        ({"one": FOUR, "two": FIVE, "three": FOUR}, [3, 1]),  # an added benchmark
        ({"one": FOUR, "two": {**FIVE, "rows": 1}, "three": FOUR}, [1, 1]),  # another setting
        ({"three": FOUR, "one": FOUR}, []),  # a removed benchmark
    ):
        elsewhere()
        generated.clear()
        found = ask(**entries)
        assert generated == new
        assert set(found) == {f"{name}{end}" for name in entries for end in (".jsonl", ".fingerprint.json")}
        elsewhere()
        assert found == ask(output="fresh", **entries)
        shutil.rmtree(tmp_path / "fresh")


def test_a_cell_is_asked_again_for_whatever_decides_its_answers(ask, base, generated, elsewhere, monkeypatch, tmp_path):
    loaded = load(base, base)
    save_rung(tmp_path / "other", loaded.model, loaded.tokenizer, rung="other", method="base")
    before = ask(one=FOUR)

    def asked(**changed):
        elsewhere()
        generated.clear()
        ask(**{"one": FOUR, **changed})
        return generated

    assert asked() == []
    assert asked(questions=ROWS[::-1]) == [3, 1]
    assert asked(model=tmp_path / "other") == [3, 1]
    assert asked(one={**FOUR, "seed": 1, "temperature": 1.0}) == [3, 1]
    assert asked(one={**FOUR, "engine": "padded"}) == [3, 1]
    assert asked() == [3, 1]
    with monkeypatch.context() as patched:
        patched.setattr(answer, "code_hash", lambda engine, others: "another")
        assert asked() == [3, 1]
    assert ask(one=FOUR) == before
    (tmp_path / "said/one.jsonl").write_bytes(before["one.jsonl"].replace(b'"tokens"', b'"Tokens"'))
    assert ask(one=FOUR) == before
    (tmp_path / "said/one.fingerprint.json").write_text("{")
    assert ask(one=FOUR) == before


def test_moving_to_another_device_asks_nothing(ask, generated, monkeypatch, tmp_path):
    ask(one=FOUR)
    record = tmp_path / "said/one.fingerprint.json"
    record.write_text(record.read_text().replace('"device": "cpu"', '"device": "NVIDIA H200"'))
    generated.clear()
    ask(one=FOUR)
    assert generated == [] and "NVIDIA H200" in record.read_text()


def test_a_run_without_new_cells_imports_no_torch(ask, base, tmp_path):
    ask(one=FOUR)
    program = (
        "import sys\nfrom pathlib import Path\nfrom ladder.pipeline.stage import fit\nfrom stages.answer import *\n"
        f"section = fit(Params, {{'one': {FOUR}}}, 'answer')\n"
        f"base = Path({str(base)!r})\n"
        "main(section, Path('questions'), base, base, Path('said'), benchmarks=['one'])\n"
        "assert not {'torch', 'transformers'} & sys.modules.keys()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "LADDER_WORK": str(tmp_path / "work"), "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "one: 3 questions, answers up to date\n"), done.stderr


def test_a_run_that_broke_goes_on_with_the_benchmark_it_was_at(ask, generated):
    with pytest.raises(UserError, match="expected at most 3, the questions of .*second.jsonl, got 5"):
        ask(first=FOUR, second={**FOUR, "rows": 5})
    assert generated == [3, 1]
    ask(first=FOUR, second={**FOUR, "rows": 3})
    assert generated == [3, 1]  # the second benchmark asks the same conversations by the same settings


def test_a_benchmark_that_broke_in_its_second_turn_keeps_the_first(ask, monkeypatch, elsewhere, generated):
    whole = ask(first=FOUR)
    elsewhere()
    generate = TokenEngine.generate

    def broken(self, conversations, *rest, **named):
        if len(conversations) == 1:
            raise KeyboardInterrupt
        return generate(self, conversations, *rest, **named)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(TokenEngine, "generate", broken)
        ask(first=FOUR, output="again")
    generated.clear()
    assert ask(first=FOUR, output="again") == whole
    assert generated == [1]


def test_an_endpoint_answers_for_each_rung_by_its_name(ask, monkeypatch):
    client_of.cache_clear()
    with serving(lambda asked, n: Said(f"{asked['model']}: {asked['messages'][-1]['content']}")) as server:
        endpoint = {"base_url": server.base_url, "model": "served/{rung}"}
        files = ask(one={**FOUR, "endpoint": endpoint})
        assert [row["response"] for row in rows(files, "one")][:2] == ["served/base: Say 0.", "served/base: Again."]
        assert json.loads(files["one.fingerprint.json"])["engine"] == "endpoint"
        other = {"base_url": "http://127.0.0.1:9/v1", "model": "served/{rung}", "concurrency": 2}
        assert ask(one={**FOUR, "endpoint": other}) == files  # another address of the same model
        assert len(server.asked) == 4


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"rws": 2}, r"answer\.first\.rws: no such key"),
        ({"engine": "process"}, r"answer\.first\.engine: .*'auto', 'decoder', 'padded', 'vllm' or 'endpoint'"),
        ({"engine": "endpoint"}, "engine: endpoint needs a server"),
        ({"engine": "vllm", "endpoint": {"base_url": "http://localhost/v1", "model": "{rung}"}}, "vllm asks the rung"),
        ({"endpoint": {"base_url": "http://localhost/v1", "model": "m"}}, "one model would answer for all of them"),
        ({"budget": {"requests": 1}}, "budget: no effect without an endpoint"),
    ],
)
def test_an_entry_that_asks_in_no_way_is_refused(ask, entry, sentence):
    with pytest.raises(UserError, match=sentence):
        ask(first={**FOUR, **entry})


def test_a_benchmark_without_an_entry_is_refused(base, tmp_path):
    with pytest.raises(UserError, match=r"report\.benchmarks names 'second'; expected an entry answer\.second"):
        main(fit(Params, {"first": FOUR}, "answer"), tmp_path, base, base, tmp_path / "said", benchmarks=["second"])
