"""One writer for each output, with processes that run at the same time."""

import json
import os
import subprocess
import sys

import pytest

from conftest import ROOT
from ladder.pipeline.output_locks import alone, written
from ladder.pipeline.stage import UserError

WRITER = """
import sys
from pathlib import Path
from ladder.pipeline.output_locks import written
with written([Path(path) for path in sys.argv[1:]]):
    print("holds", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def writer(tmp_path):
    """Start a process that holds the locks of outputs until it is killed or its input ends."""
    started = []

    def start(*outputs, work=tmp_path / "work", cwd=tmp_path):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, *map(str, outputs)],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(ROOT), "LADDER_WORK": str(work)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "holds\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def refused(output):
    with pytest.raises(UserError) as refusal, written([output]):
        pass
    return str(refusal.value)


def clone(folder):
    (folder / ".dvc").mkdir(parents=True)
    return folder


def test_a_second_writer_is_refused_by_pid_and_output(tmp_path, writer):
    root = clone(tmp_path / "ladder")
    first = writer("metrics/a.json", "models/sft/a", cwd=root)
    output = root / "models/sft/a"
    assert refused(output) == (
        f"{output}: process {first.pid} is writing this output; expected one writer. Wait for it, or end it "
        f"(kill {first.pid}), and run again."
    )
    (tmp_path / "link").symlink_to(root, target_is_directory=True)
    assert f"process {first.pid} is" in refused(tmp_path / "link/models/sft/a")  # the same output by another path
    first.kill()  # the kernel releases the lock of a killed process
    first.wait()
    with written([root / "metrics/a.json", output]):
        pass
    assert not list((root / ".dvc").rglob("writers/*"))


def test_another_work_folder_does_not_let_a_second_writer_in(tmp_path, writer, monkeypatch):
    root = clone(tmp_path / "ladder")
    writer(root / "models/a", work=tmp_path / "one")
    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "two"))
    assert "expected one writer" in refused(root / "models/a")


def test_clones_with_outputs_of_their_own_do_not_block_each_other(tmp_path, writer):
    one, two = clone(tmp_path / "one"), clone(tmp_path / "two")
    writer("models/a", cwd=one)
    writer("models/a", cwd=two)
    assert "expected one writer" in refused(one / "models/a") and "expected one writer" in refused(two / "models/a")


def test_outside_a_repository_the_locks_lie_in_the_work_folder(tmp_path, writer, monkeypatch):
    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "work"))
    first = writer(tmp_path / "plain/a.json")
    (lock,) = (tmp_path / "work/writers").iterdir()
    assert json.loads(lock.read_text())["pid"] == first.pid
    assert "expected one writer" in refused(tmp_path / "plain/a.json")
    first.communicate()
    assert not list((tmp_path / "work").iterdir())


def test_a_lock_that_is_removed_while_it_is_held_is_taken_again(tmp_path):
    path = tmp_path / "work/lock"
    with alone(path, "first", "is busy"):
        path.unlink()
        with alone(path, "second", "is busy"), pytest.raises(UserError), alone(path, "third", "is busy"):
            pass
    assert not path.exists()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("", "a: another process is busy. Wait for it, and run again."),
        (
            '{"pid": 12, "host": "far", "path": "a"}',
            "a: process 12 on far is busy. Wait for it, or end it on far (kill 12), and run again.",
        ),
    ],
)
def test_who_holds_a_lock_elsewhere_is_named(tmp_path, said, expected):
    with alone(tmp_path / "lock", "a", "is busy"):
        (tmp_path / "lock").write_text(said)
        with pytest.raises(UserError) as refusal, alone(tmp_path / "lock", "a", "is busy"):
            pass
    assert str(refusal.value) == expected
