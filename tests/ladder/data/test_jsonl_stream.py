import pytest

from ladder.data.jsonl_stream import split, whole

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
