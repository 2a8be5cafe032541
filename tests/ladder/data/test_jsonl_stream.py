import pytest

from ladder.data.jsonl_stream import RowFile, split, whole
from ladder.pipeline.stage import UserError

LINES = [b"one\n", b"\n", b"two, which is a longer one\n", b" \r\n", b"three\n", b"four"]


@pytest.fixture
def path(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b"".join(LINES))
    return tmp_path / "rows.jsonl"


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 50])
def test_shards_hold_every_line_once_in_order_with_its_number(path, count):
    shards = split(path, count)
    assert len(shards) == count
    read = [line for shard in shards for line in shard.lines()]
    assert read == [(1, b"one\n"), (3, LINES[2]), (5, b"three\n"), (6, b"four\n")]
    assert (shards[0].start, shards[-1].stop) == (0, path.stat().st_size)


def test_an_empty_file_has_no_lines(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    assert list(whole(tmp_path / "empty").lines()) == []
    assert [list(shard.lines()) for shard in split(tmp_path / "empty", 3)] == [[], [], []]


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
