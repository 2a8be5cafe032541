"""Half-written files never have the target's name; the next writer removes the leftovers of a killed one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from ladder.data.atomic_write import beside, clean, published, replacing, scratch, target, whole


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_there_when_it_is_whole(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("old")
    with whole(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert (path.read_text(), names(tmp_path)) == ("new", ["rows.jsonl"])
    with pytest.raises(KeyboardInterrupt), whole(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert (path.read_text(), names(tmp_path)) == ("new", ["rows.jsonl"])


def test_a_reader_sees_the_old_folder_or_the_new_one(tmp_path):
    """A reader in another process lists the folder repeatedly while it is replaced 200 times.

    A listed folder may be in deletion and have fewer files, but it never mixes two versions.
    """
    folder = tmp_path / "rung"
    reader = (
        "import json, os, sys; seen = set()\n"
        "while not os.path.exists(sys.argv[1] + '.end'):\n"
        "    try: seen.add(' '.join(sorted(os.listdir(sys.argv[1]))))\n"
        "    except FileNotFoundError: pass\n"
        "print(json.dumps(sorted(seen)))"
    )
    process = subprocess.Popen([sys.executable, "-c", reader, str(folder)], stdout=subprocess.PIPE, text=True)
    for number in range(200):
        with published(folder) as made:
            made.mkdir()
            for part in ("a", "b", "c"):
                (made / f"{part}{number % 2}").touch()
    (tmp_path / "rung.end").touch()
    seen = json.loads(process.communicate()[0])
    assert {"a0 b0 c0", "a1 b1 c1"} <= set(seen)
    assert not [listed for listed in seen if "0" in listed and "1" in listed]
    assert names(tmp_path) == ["rung", "rung.end"]


def test_two_writers_have_different_temporary_names(tmp_path):
    path = tmp_path / "rows.jsonl"
    assert len({beside(path) for _ in range(100)}) == 100
    with whole(path) as first:
        with whole(path) as second:
            second.write(b"second")
        first.write(b"first")
    assert (path.read_text(), names(tmp_path)) == ("first", ["rows.jsonl"])


KILLED = """
import os, signal, sys
from pathlib import Path
from ladder.data.atomic_write import published, scratch, whole
path = Path(sys.argv[1])
with whole(path) as file, published(path.with_name("folder")) as folder, scratch(path) as other:
    file.write(b"half")
    folder.mkdir()
    (folder / "x").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path):
    path = tmp_path / "rows.jsonl"
    keep = ["rows.jsonl.part", ".rows.jsonl.swp", ".rows.jsonl.old.part", ".row.1-ab.part"]
    for name in keep:
        (tmp_path / name).touch()
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == -signal.SIGKILL
    left = sorted(set(names(tmp_path)) - set(keep))
    assert [target(tmp_path / name).name for name in left] == ["folder", "rows.jsonl", "rows.jsonl"]
    clean(path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/.table.md.1-ab.part").touch()
    clean(tmp_path / "folder")
    assert names(tmp_path / "folder") == []
    (tmp_path / "folder").rmdir()
    clean(tmp_path / "no/such/folder")
    assert names(tmp_path) == sorted(keep)


def test_git_and_dvc_look_at_no_temporary_name(tmp_path):
    name = beside(Path("data/task/rows.jsonl"))
    ignored = subprocess.run(["git", "check-ignore", "--no-index", name], cwd=ROOT, capture_output=True, text=True)
    assert ignored.stdout == f"{name}\n"
    ignored = subprocess.run(
        [sys.executable, "-m", "dvc", "check-ignore", name], cwd=ROOT, capture_output=True, text=True
    )
    assert ignored.stdout == f"{name}\n"


def test_a_name_as_long_as_the_file_system_allows_has_a_temporary_name(tmp_path):
    path = tmp_path / ("é" * 125 + ".json")
    with whole(path) as file:
        file.write(b"1")
    assert names(tmp_path) == [path.name]


def test_a_failed_write_names_the_target(tmp_path):
    with pytest.raises(OSError, match="No space left") as caught, replacing(tmp_path / "rows.jsonl") as temporary:
        temporary.symlink_to("/dev/full")
        with temporary.open("wb") as file:
            file.write(bytes(1 << 20))
    assert caught.value.filename == str(tmp_path / "rows.jsonl")
    assert names(tmp_path) == []


def test_scratch_is_gone_when_it_is_no_longer_needed(tmp_path):
    with scratch(tmp_path / "new/base") as folder:
        (folder / "model").touch()
        assert target(folder) == tmp_path / "new/base"
    assert names(tmp_path / "new") == []
