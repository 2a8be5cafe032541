import pytest

from ladder.data.jsonl import read_rows, write_rows
from ladder.pipeline.stage import UserError
from stages.questions import Params, main

ROWS = [
    {"key": n, "prompt": f"Say {n}.", "instruction_id_list": [f"{name}:x"], "kwargs": [{}]}
    for n, name in enumerate("aaaab")
]


def test_every_beginning_has_the_mix_of_the_whole(tmp_path):
    write_rows(tmp_path / "ifeval.jsonl", ROWS)
    main(Params(), tmp_path / "ifeval.jsonl", tmp_path / "asked.jsonl")
    asked = read_rows(tmp_path / "asked.jsonl")
    assert [row["group"] for row in asked] == list("aabaa")
    assert sorted((row["key"], row["turns"]) for row in asked) == [(str(n), [f"Say {n}."]) for n in range(5)]
    main(Params(seed=1), tmp_path / "ifeval.jsonl", tmp_path / "other.jsonl")
    assert [row["group"] for row in read_rows(tmp_path / "other.jsonl")] == list("aabaa")
    assert read_rows(tmp_path / "other.jsonl") != asked


def test_refuses_rows_of_a_benchmark_that_there_is_not(tmp_path):
    write_rows(tmp_path / "nothing.jsonl", ROWS)
    with pytest.raises(UserError, match="no benchmark is named 'nothing'"):
        main(Params(), tmp_path / "nothing.jsonl", tmp_path / "asked.jsonl")
