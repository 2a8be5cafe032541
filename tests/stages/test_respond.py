import shutil

import pytest

from ladder.data.jsonl import read_rows, write_rows
from ladder.inference import answer_cache
from ladder.inference.local import answer
from ladder.pipeline.stage import UserError, fit
from stages.respond import Params, main

TURNS = [["Say 0.", "Again."], ["Say 1."], ["Say 2."]]


@pytest.fixture
def ask(tmp_path, base, monkeypatch):
    """Ask benchmarks with the same three questions, with these entries; return their rows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "work"))
    (tmp_path / "stages").mkdir()
    for stage in ("report", "respond"):
        (tmp_path / f"stages/{stage}.py").touch()
    (tmp_path / "code.txt").write_text("as it is")
    rows = [{"key": str(n), "turns": said, "group": "g"} for n, said in enumerate(TURNS)]

    def asked(model=base, **entries):
        shutil.rmtree("said", ignore_errors=True)
        (tmp_path / "params.yaml").write_text(f"report: {{benchmarks: [{', '.join(entries)}]}}")
        for name in entries:
            write_rows(tmp_path / f"questions/{name}.jsonl", rows)
        paths = (tmp_path / name for name in ("code.txt", "questions"))
        main(fit(Params, entries, "respond"), *paths, model, base, tmp_path / "said")
        return {name: read_rows(tmp_path / f"said/{name}.jsonl") for name in entries}

    return asked


def test_the_first_questions_are_answered_turn_by_turn(ask):
    said = ask(few={"rows": 2, "max_new_tokens": 6}, whole={"max_new_tokens": 6})
    few, whole = said["few"], said["whole"]
    assert [(row["key"], row["sample"], row["turn"], row["prompt"]) for row in whole] == [
        ("0", 0, 0, "Say 0."), ("0", 0, 1, "Again."), ("1", 0, 0, "Say 1."), ("2", 0, 0, "Say 2."),
    ]  # fmt: skip
    assert few == whole[:3]
    assert set(few[0]) == {"key", "sample", "turn", "prompt", "response", "tokens", "finished"}
    assert all(row["tokens"] == 6 or row["finished"] for row in whole)


def test_what_was_answered_is_not_asked_again_and_what_changed_is(ask, tmp_path, capfd):
    def asked(**entries):
        ask(**entries)
        return capfd.readouterr().out.splitlines()

    first, second = {"max_new_tokens": 4}, {"max_new_tokens": 5}
    assert asked(first=first) == ["first: 3 questions"]
    assert asked(first=first, second=second) == ["first: 3 questions, answers from cache", "second: 3 questions"]
    assert asked(first=first, second={**second, "rows": 1})[1:] == ["second: 1 questions"]
    cached = [f"{name}: 3 questions, answers from cache" for name in ("first", "second")]
    assert asked(first=first, second=second) == cached
    (tmp_path / "code.txt").write_text("edited")
    assert asked(second=second) == ["second: 3 questions"]


def test_a_run_that_broke_goes_on_with_the_benchmark_it_was_at(ask, tmp_path, capfd):
    entry = {"max_new_tokens": 4}
    with pytest.raises(UserError, match="5 questions|expected at most 3, .*, got 5"):
        ask(first=entry, second={**entry, "rows": 5})
    capfd.readouterr()
    ask(first=entry, second=entry)
    assert "first: 3 questions, answers from cache\n" in capfd.readouterr().out


def test_a_benchmark_without_an_entry_and_a_key_that_is_none_are_refused(ask):
    with pytest.raises(UserError, match=r"respond\.first\.rws: no such key"):
        ask(first={"rws": 2, "max_new_tokens": 6})


def test_a_benchmark_that_broke_in_its_second_turn_keeps_the_first(ask, base, monkeypatch, capfd):
    entry = {"max_new_tokens": 4}
    whole = ask(first={**entry, "seed": 0})["first"]
    monkeypatch.setenv("LADDER_WORK", "elsewhere")
    made = []

    def broken(model, conversations, *rest, **named):
        if len(conversations) == 1:
            raise KeyboardInterrupt
        made.append(len(conversations))
        return answer(model, conversations, *rest, **named)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(answer_cache, "answer", broken)
        ask(first=entry)
    capfd.readouterr()
    assert ask(first=entry)["first"] == whole
    assert made == [3]
    assert f"{base}: 3 answers from cache" in capfd.readouterr().err
