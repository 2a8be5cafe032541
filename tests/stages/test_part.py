import pytest

from conftest import assistant, user
from ladder.data.jsonl import read_rows, write_rows
from ladder.pipeline.stage import UserError
from stages.part import Params, main


def test_a_row_keeps_its_source_or_gets_its_file(tmp_path):
    rows = [
        {"id": "a", "messages": user("1") + assistant("2"), "score": 3},
        {"prompt": user("3"), "completion": assistant("4")},
        {"id": "b", "source": {"name": "hh", "row": "hh.jsonl:7"}, "messages": user("5") + assistant("é")},
    ]
    write_rows(tmp_path / "chat.jsonl", rows)
    main(Params(data="filter/chat"), tmp_path / "chat.jsonl", tmp_path / "part/both/own.jsonl")
    assert read_rows(tmp_path / "part/both/own.jsonl") == [
        {**rows[0], "source": {"name": "filter/chat", "row": "a"}},
        {**rows[1], "source": {"name": "filter/chat", "row": 2}},
        rows[2],
    ]


def test_a_row_of_no_type_is_named(tmp_path):
    write_rows(tmp_path / "chat.jsonl", [{"messages": user("1") + assistant("2")}, {"text": "x"}])
    with pytest.raises(UserError, match="chat.jsonl:2: expected the columns messages; prompt and completion"):
        main(Params(data="filter/chat"), tmp_path / "chat.jsonl", tmp_path / "part/both/own.jsonl")
    assert not (tmp_path / "part/both/own.jsonl").exists()


def test_a_text_that_utf_8_cannot_hold_is_named(tmp_path):
    (tmp_path / "chat.jsonl").write_text('{"prompt": [{"role": "user", "content": "\\ud800"}]}\n')
    with pytest.raises(UserError, match="chat.jsonl:1: unpaired surrogate"):
        main(Params(data="filter/chat"), tmp_path / "chat.jsonl", tmp_path / "part/both/own.jsonl")
