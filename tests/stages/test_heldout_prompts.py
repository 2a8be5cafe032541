import pytest

from ladder.data.jsonl import read_rows, write_rows
from ladder.pipeline.stage import UserError
from stages.heldout_prompts import Params, main


def test_prompts_are_copied_and_need_an_id(tmp_path):
    rows = [{"id": "a", "prompt": "One?"}, {"id": "b", "prompt": "Two?"}]
    write_rows(tmp_path / "prompts.jsonl", rows)
    main(Params(), tmp_path / "prompts.jsonl", tmp_path / "out/problems/maths.jsonl")
    assert read_rows(tmp_path / "out/problems/maths.jsonl") == rows
    write_rows(tmp_path / "prompts.jsonl", [rows[0], {"prompt": "Two?"}])
    with pytest.raises(UserError, match="prompts.jsonl: row 2: expected 'id' of type str"):
        main(Params(), tmp_path / "prompts.jsonl", tmp_path / "out/problems/maths.jsonl")
