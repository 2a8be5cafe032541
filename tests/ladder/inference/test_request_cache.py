import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from ladder.data.jsonl import Row
from ladder.inference.request_cache import Replies, content_key, store_of
from ladder.pipeline.stage import UserError

A, B, C = (content_key(name=name) for name in "abc")


def kept(store: Replies) -> dict[str, Row]:
    return {key: store[key] for key in (A, B, C) if key in store}


def test_a_reply_is_there_for_every_later_store(tmp_path: Path) -> None:
    path = tmp_path / "new" / "replies.jsonl"
    first, second = Replies(path), Replies(path)
    first.add(A, {"text": "one\u2028\n"})
    second.add(B, {"text": "two"})
    assert kept(first) == {A: {"text": "one\u2028\n"}}
    first.read()
    assert kept(first) == kept(second) == kept(Replies(path)) == {A: {"text": "one\u2028\n"}, B: {"text": "two"}}
    assert path.read_bytes().count(b"\n") == len(first) == 2


def test_what_is_kept_again_is_the_last(tmp_path: Path) -> None:
    store = Replies(tmp_path / "replies.jsonl")
    for text in ("one", "two"):
        store.add(A, {"text": text})
    assert kept(store) == kept(Replies(store.path)) == {A: {"text": "two"}}


@pytest.mark.parametrize("torn", [f'["{B}", {{"te', f'["{B[:9]}', f'["{B}", {{"text": "two"}}]'])
def test_a_line_cut_by_a_kill_is_cut_off(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "replies.jsonl"
    Replies(path).add(A, {"text": "one"})
    with path.open("a") as file:
        file.write(torn)
    store = Replies(path)
    assert list(kept(store)) == [A]
    store.add(C, {"text": "three"})
    assert list(kept(Replies(path))) == [A, C]
    assert torn not in path.read_text()


BROKEN = {
    "no reply": b"no reply",
    "no JSON": f'["{B}", {{"text": no}}]'.encode(),
    "a byte of 0": f'["{B}", {{"text": "a\x00b"}}]'.encode(),
    "no UTF-8": f'["{B}", {{"text": "'.encode() + b'\xff"}]',
    "no object": f'["{B}", 5]'.encode(),
    "brackets": b"[" * 5000,
    "short key": f'["{B[:9]}", {{"text": "two"}}]'.encode(),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_broken_line_is_left_out_and_reported_and_the_others_are_used(
    tmp_path: Path, broken: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "replies.jsonl"
    Replies(path).add(A, {"text": "one \ud83d"})
    with path.open("ab") as file:
        file.write(broken + b"\n")
    before = path.read_bytes()
    store = Replies(path)
    assert capsys.readouterr().err == f"{path}: 1 damaged line ignored; their requests are sent again\n"
    assert kept(store) == {A: {"text": "one \ud83d"}}
    store.add(C, {"text": "three"})
    store.add(B, {"text": "two"})
    assert capsys.readouterr().err == ""
    assert path.read_bytes().startswith(before)
    assert kept(Replies(path)) == {A: {"text": "one \ud83d"}, B: {"text": "two"}, C: {"text": "three"}}


def test_a_damaged_later_line_leaves_the_earlier_reply(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "replies.jsonl"
    Replies(path).add(A, {"text": "one"})
    with path.open("a") as file:
        file.write(f'["{A}", {{"text": tw}}]\n' * 2)
    assert kept(Replies(path)) == {A: {"text": "one"}}
    assert "2 damaged lines ignored" in capsys.readouterr().err


MANY = """
import sys
from pathlib import Path
from ladder.inference.request_cache import Replies, content_key

store = Replies(Path(sys.argv[1]))
for number in range(200):
    store.add(content_key(process=int(sys.argv[2]), number=number), {"text": "x" * number})
"""


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    command = [sys.executable, "-c", MANY, str(path)]
    processes = [subprocess.Popen([*command, str(number)], cwd=ROOT) for number in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    store = Replies(path)
    assert len(store) == path.read_bytes().count(b"\n") == 800
    assert store[content_key(process=3, number=199)] == {"text": "x" * 199}


def test_a_disk_that_is_full_is_reported(tmp_path: Path) -> None:
    store = Replies(tmp_path / "replies.jsonl")
    store.add(A, {"text": "one"})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (store.path.stat().st_size + 10, before[1]))
        with pytest.raises(UserError, match="replies.jsonl: no space to save a reply"):
            store.add(B, {"text": "two"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    store.add(C, {"text": "three"})
    assert list(kept(store)) == list(kept(Replies(store.path))) == [A, C]


def test_each_model_has_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LADDER_WORK", str(tmp_path))
    first, second = store_of("org/model:free"), store_of("org-model-free")
    assert first.path.name.startswith("org-model-free-") and second.path.name.startswith("org-model-free-")
    assert first.path.parent == tmp_path / "replies" and first.path != second.path


def test_the_key_is_of_the_content() -> None:
    assert content_key(a=1, b=[2]) == content_key(b=[2], a=1)
    assert content_key(a=1) != content_key(a=2) != content_key(b=2)
