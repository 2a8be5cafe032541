import json

import pytest

from conftest import assistant, user
from ladder.data.jsonl import read_rows, write_rows
from ladder.pipeline.stage import UserError, fit
from stages.filter import Params, main

STEPS = [{"finished": None}, {"length": {"min": 1, "max": 3}}, {"decontaminate": {"ngram": 3}}]
OUTPUTS = ("filter.jsonl", "rejected.jsonl", "rejected.md", "filter.json", "filter.tsv")


def run(tmp_path, answers, steps=STEPS, **rest):
    rows = [
        {
            "id": str(n),
            "finished": True,
            "edited": False,
            "checks": [],
            "prompt": user(f"Q{n}"),
            "completion": assistant(text),
        }
        for n, text in enumerate(answers)
    ]
    write_rows(tmp_path / "generate.jsonl", rows)
    write_rows(tmp_path / "task" / "quiz.jsonl", [{"prompt": "red green blue"}])
    outputs = [tmp_path / name for name in OUTPUTS]
    params = Params(data="generate/chat", model="base", steps=steps, **rest)
    main(
        params,
        tmp_path / "generate.jsonl",
        tmp_path / "task",
        tmp_path / "base",
        tmp_path / "base",
        tmp_path / "prompts",
        *outputs,
    )
    rejected = [json.loads(line) for line in outputs[1].read_text().splitlines()]
    return read_rows(outputs[0]), rejected, json.loads(outputs[3].read_text())


def test_every_row_is_kept_or_rejected_with_a_reason(tmp_path):
    kept, rejected, counts = run(tmp_path, [" fine ", "one two three four", "Red, green, blue"])
    assert [row["completion"] for row in kept] == [assistant("fine")]
    assert [(row["id"], row["filter"], row["reason"]) for row in rejected] == [
        ("1", "length", "4 words"),
        ("2", "decontaminate", "in quiz: red green blue"),
    ]
    assert counts == {
        "in": 3,
        "kept": 1,
        "edited": 0,
        "contaminated": 0,
        "rejected": {"finished": 0, "length": 1, "decontaminate": 1},
    }
    assert (tmp_path / "filter.tsv").read_text() == "step\trows\nin\t3\nfinished\t3\nlength\t2\ndecontaminate\t1\n"
    assert "> ⟦Red, green, blue⟧" in (tmp_path / "rejected.md").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {*OUTPUTS, "generate.jsonl", "task"}


def test_an_empty_result_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(UserError, match="no row is left after length. Its first reason: 4 words"):
        run(tmp_path, ["one two three four"])
    assert not any((tmp_path / name).exists() for name in OUTPUTS)


def test_the_gate_stops_what_a_benchmark_says_where_no_step_does(tmp_path):
    answer = "they tell red green blue and then nothing more"
    write_rows(tmp_path / "task" / "long.jsonl", [{"prompt": "Say red green blue and then nothing more to me."}])
    steps = [{"finished": None}]
    kept, _, counts = run(tmp_path, ["fine", answer], steps, contamination="report")
    assert (len(kept), counts["contaminated"]) == (2, 0)  # seven words
    answer = f"Say {answer.removeprefix('they tell ')}"
    with pytest.raises(UserError) as refusal:
        run(tmp_path, ["fine", answer], steps)
    assert str(refusal.value) == (
        f"{tmp_path / 'generate.jsonl'}: 1 kept rows still overlap a benchmark, first row '1' in long: "
        "say red green blue and then nothing more. Add the step decontaminate, or set contamination: report."
    )
    kept, _, counts = run(tmp_path, ["fine", answer], steps, contamination="report")
    assert (len(kept), counts["contaminated"]) == (2, 1)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (
            {"lenght": {}},
            "filter.steps: no filter is named 'lenght' (did you mean 'length'?); expected",
        ),
        ({"length": {"min": 1}}, "filter.steps: length: expected max, min, got {'min': 1}"),
        ({"exact": None, "finished": None}, "filter.steps: expected one filter"),
    ],
)
def test_a_misspelt_filter_is_named(step, said):
    with pytest.raises(UserError) as refusal:
        fit(Params, {"data": "generate/chat", "model": "base", "steps": [step]}, "filter")
    assert said in str(refusal.value)


@pytest.mark.parametrize("engine", ["remote", {"datatrove": {"tasks": 0, "workers": 1}}, {"ray": {}}])
def test_an_engine_that_is_none_is_refused(engine):
    with pytest.raises(UserError, match="filter.engine"):
        fit(Params, {"data": "generate/chat", "model": "base", "steps": STEPS, "engine": engine}, "filter")
