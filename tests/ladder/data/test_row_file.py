import pytest

from ladder.data.row_file import RowFile
from ladder.pipeline.stage import UserError


def file(tmp_path, text):
    (tmp_path / "rows.jsonl").write_text(text)
    return RowFile(tmp_path / "rows.jsonl", lambda row, where: {**row, "where": where.rpartition("/")[2]})


def test_rows_are_read_each_time_and_checked(tmp_path):
    rows = file(tmp_path, '{"a": 1}\n\n{"a": 2}')
    wanted = [{"a": 1, "where": "rows.jsonl:1"}, {"a": 2, "where": "rows.jsonl:3"}]
    assert list(rows) == wanted
    assert list(rows) == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1}\n\n{', "rows.jsonl:3: not JSON"),
        ('{"a": 1}\n[1]', "rows.jsonl:2: expected a JSON object, got list"),
        ("\n\n", "rows.jsonl: no rows"),
    ],
)
def test_what_is_no_row_is_named(tmp_path, text, said):
    with pytest.raises(UserError, match=said):
        list(file(tmp_path, text))


def test_a_file_that_is_not_there_is_refused_at_once(tmp_path):
    with pytest.raises(UserError, match="none.jsonl: no such file"):
        RowFile(tmp_path / "none.jsonl", lambda row, where: row)
