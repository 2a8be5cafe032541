from ladder.rows import read_rows, write_rows
from stages.respond import Params, main


def test_answers_are_greedy_and_of_the_fixed_part(tmp_path, base):
    rows = [{"key": n, "prompt": f"Say {n}.", "instruction_id_list": ["a:b"], "kwargs": [{}]} for n in range(5)]
    write_rows(tmp_path / "task.jsonl", rows)
    for size in (2, 0):
        main(Params(rows=size, max_new_tokens=6), tmp_path / "task.jsonl", base, base, tmp_path / f"{size}.jsonl")
    few, whole = read_rows(tmp_path / "2.jsonl"), read_rows(tmp_path / "0.jsonl")
    assert len(few) == 2 and {row["key"] for row in whole} == {0, 1, 2, 3, 4}
    assert all(row in whole for row in few)
    assert set(few[0]) == {"key", "prompt", "response", "tokens", "finished"}
    assert all(row["tokens"] == 6 or row["finished"] for row in whole)
