import json

import pytest

from conftest import assistant, user
from ladder.rows import read_rows, write_rows
from ladder.run import Refused, fit
from stages.filter import Params, main

STEPS = [{"finished": None}, {"length": {"least": 1, "most": 3}}, {"decontaminate": {"ngram": 3}}]


def run(tmp_path, answers, steps=STEPS):
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
    (tmp_path / "task").mkdir(exist_ok=True)
    write_rows(tmp_path / "task" / "quiz.jsonl", [{"prompt": "red green blue"}])
    outputs = [tmp_path / name for name in ("filter.jsonl", "rejected.jsonl", "filter.json")]
    main(Params(data="generate/chat", steps=steps), tmp_path / "generate.jsonl", tmp_path / "task", *outputs)
    return read_rows(outputs[0]), read_rows(outputs[1]), json.loads(outputs[2].read_text())


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
        "rejected": {"finished": 0, "length": 1, "decontaminate": 1},
    }


def test_an_empty_result_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(Refused, match="no row is left after length: 4 words"):
        run(tmp_path, ["one two three four"])
    assert not (tmp_path / "filter.jsonl").exists()


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"lenght": {}}, "filter.steps: expected one of best, decontaminate, exact, finished, length, repetition"),
        ({"length": {"least": 1}}, "filter.steps: length takes least, most, got {'least': 1}"),
        ({"exact": None, "finished": None}, "filter.steps: expected one of"),
    ],
)
def test_a_misspelt_filter_is_named(step, said):
    with pytest.raises(Refused) as refusal:
        fit(Params, {"data": "generate/chat", "steps": [step]}, "filter")
    assert said in str(refusal.value)
