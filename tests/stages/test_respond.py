from ladder.rows import read_rows, write_rows
from stages.respond import Params, main


def test_the_first_questions_are_answered_turn_by_turn(tmp_path, base):
    turns = [["Say 0.", "Again."], ["Say 1."], ["Say 2."]]
    write_rows(tmp_path / "asked.jsonl", [{"key": str(n), "turns": said, "group": "g"} for n, said in enumerate(turns)])
    for size in (2, 0):
        main(Params(rows=size, max_new_tokens=6), tmp_path / "asked.jsonl", base, base, tmp_path / f"{size}.jsonl")
    few, whole = read_rows(tmp_path / "2.jsonl"), read_rows(tmp_path / "0.jsonl")
    assert [(row["key"], row["sample"], row["turn"], row["prompt"]) for row in whole] == [
        ("0", 0, 0, "Say 0."), ("0", 0, 1, "Again."), ("1", 0, 0, "Say 1."), ("2", 0, 0, "Say 2."),
    ]  # fmt: skip
    assert few == whole[:3]
    assert set(few[0]) == {"key", "sample", "turn", "prompt", "response", "tokens", "finished"}
    assert all(row["tokens"] == 6 or row["finished"] for row in whole)
