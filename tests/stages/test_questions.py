from pathlib import Path

import pytest

from ladder.data.jsonl import read_rows, write_rows
from ladder.pipeline.stage import UserError
from stages.questions import Params, main

ROWS = [
    {"key": n, "prompt": f"Say {n}.", "instruction_id_list": [f"{name}:x"], "kwargs": [{}]}
    for n, name in enumerate("aaaab")
]


@pytest.fixture(autouse=True)
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("ifeval", "gsm8k"):
        Path("code/benchmarks").mkdir(parents=True, exist_ok=True)
        Path(f"code/benchmarks/{name}.txt").write_text(f"00  benchmarks/{name}.py\n")
    Path("code/questions.txt").write_text("00  stages/questions.py\n")
    write_rows(Path("task/ifeval.jsonl"), ROWS)
    write_rows(Path("task/gsm8k.jsonl"), [{"question": "1+1?", "answer": "#### 2"}])


def write(*benchmarks, seed=0):
    inputs = (Path("code/questions.txt"), Path("code/benchmarks"), Path("task"))
    main(Params(seed=seed), *inputs, Path("asked"), Path("asked.cells.json"), benchmarks=list(benchmarks))


def test_every_prefix_has_the_proportions_of_the_whole():
    write("ifeval")
    asked = read_rows(Path("asked/ifeval.jsonl"))
    assert [row["group"] for row in asked] == list("aabaa")
    assert sorted((row["key"], row["turns"]) for row in asked) == [(str(n), [f"Say {n}."]) for n in range(5)]
    write("ifeval", seed=1)
    other = read_rows(Path("asked/ifeval.jsonl"))
    assert [row["group"] for row in other] == list("aabaa") and other != asked


def test_the_listed_benchmarks_whose_inputs_changed_are_written(capsys):
    write("ifeval", "gsm8k")
    assert capsys.readouterr().out.splitlines() == [
        "ifeval: writing its questions (new)",
        "gsm8k: writing its questions (new)",
    ]
    Path("code/benchmarks/gsm8k.txt").write_text("11  benchmarks/gsm8k.py\n")
    write_rows(Path("task/ifeval.jsonl"), ROWS[:4])
    write("ifeval", "gsm8k")
    assert capsys.readouterr().out.splitlines() == [
        "ifeval: writing its questions (task changed)",
        "gsm8k: writing its questions (code changed)",
    ]
    write("gsm8k")
    assert capsys.readouterr().out == "" and [path.name for path in Path("asked").iterdir()] == ["gsm8k.jsonl"]


def test_refuses_a_benchmark_that_there_is_not():
    with pytest.raises(UserError, match="no benchmark is named 'nothing'"):
        write("nothing")
