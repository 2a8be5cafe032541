import pytest

from ladder.data.jsonl import read_json, write_json
from ladder.pipeline.stage import UserError
from stages.provenance import Params, main


def test_it_keeps_what_the_report_shows(tmp_path):
    kept = {"method": "sft", "parent": "base", "parameters": 9, "seconds": 1.5, "memory_gb": 2.0}
    write_json(tmp_path / "record.json", {"loss": 1.0, **kept, "device": "cpu"})
    main(Params(), tmp_path / "record.json", tmp_path / "out/sft/chat.json")
    assert read_json(tmp_path / "out/sft/chat.json") == kept
    write_json(tmp_path / "record.json", {"loss": 1.0})
    with pytest.raises(UserError, match="record.json: method: expected the stage that made the rung, got None"):
        main(Params(), tmp_path / "record.json", tmp_path / "out/sft/chat.json")
