import json

import pytest

from conftest import user
from ladder.rows import read_rows, write_rows
from ladder.run import Refused
from stages.generate import Params, main


def generate(tmp_path, base, split="sft"):
    prompts = [
        {"id": "b", "split": "sft", "prompt": user("One?"), "checks": [{"kind": "quoted"}]},
        {"id": "a", "split": "sft", "prompt": user("Two?"), "checks": [{"kind": "lowercase"}]},
        {"id": "c", "split": "heldout", "prompt": user("Three?"), "checks": []},
    ]
    write_rows(tmp_path / "prompts.jsonl", prompts)
    settings = {"samples": 2, "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 5, "seed": 0, "edits": False}
    params = Params(model="base", endpoint=None, split=split, **settings)
    main(params, tmp_path / "prompts.jsonl", base, base, tmp_path / "rows.jsonl", tmp_path / "generate.json")
    return read_rows(tmp_path / "rows.jsonl")


def test_every_prompt_of_the_split_is_answered_and_judged(tmp_path, base):
    rows = generate(tmp_path, base)
    assert [(row["id"], row["sample"]) for row in rows] == [("b", 0), ("b", 1), ("a", 0), ("a", 1)]
    assert rows[0]["completion"] != rows[1]["completion"]
    assert all(row["tokens"] <= 5 and len(row["passed"]) == 1 for row in rows)
    metrics = json.loads((tmp_path / "generate.json").read_text())
    passed = sum(all(row["passed"]) for row in rows)
    assert metrics == {
        "pass_rate": 25.0 * passed,
        "finish_rate": 25.0 * sum(row["finished"] for row in rows),
        "samples": 4,
        "edited": 0,
    }


def test_a_split_without_prompts_is_named(tmp_path, base):
    with pytest.raises(Refused, match="prompts.jsonl: no prompt of split 'stf'"):
        generate(tmp_path, base, "stf")
