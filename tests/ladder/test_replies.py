from pathlib import Path

import pytest

from ladder.replies import Replies, content_key
from ladder.run import Refused


def test_a_reply_is_there_for_every_later_store(tmp_path: Path) -> None:
    path = tmp_path / "new" / "replies.jsonl"
    first, second = Replies(path), Replies(path)
    first.add("a", {"text": "one\u2028\n"})
    second.add("b", {"text": "two"})
    assert first.rows == {"a": {"text": "one\u2028\n"}}
    first.read()
    assert first.rows == second.rows == Replies(path).rows == {"a": {"text": "one\u2028\n"}, "b": {"text": "two"}}
    assert path.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize("torn", [b'["b", {"te', b'["b"', b'["b", {"text": "two"}]'])
def test_a_line_cut_by_a_kill_is_cut_off(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "replies.jsonl"
    Replies(path).add("a", {"text": "one"})
    with path.open("ab") as file:
        file.write(torn)
    store = Replies(path)
    assert list(store.rows) == ["a"]
    store.add("c", {"text": "three"})
    assert list(Replies(path).rows) == ["a", "c"]
    assert torn not in path.read_bytes()


def test_a_broken_store_is_named(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    path.write_bytes(b"no reply\n")
    with pytest.raises(Refused, match="replies.jsonl: broken after byte 0"):
        Replies(path)


def test_the_key_is_of_the_content() -> None:
    assert content_key(a=1, b=[2]) == content_key(b=[2], a=1)
    assert content_key(a=1) != content_key(a=2) != content_key(b=2)
