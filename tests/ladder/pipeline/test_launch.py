"""A small stage started as DVC starts it, with and without a launcher and shared GPUs."""

import os
import signal
import subprocess
import sys

import pytest

from conftest import ROOT
from ladder.pipeline.launch import launcher

STAGE = """
import os, sys
from pathlib import Path
from ladder.pipeline.launch import rank, world_size
from ladder.pipeline.stage import UserError, Config, run

class Params(Config):
    refused_by: int | None = None
    waits: bool = False

def main(params: Params, output: Path) -> None:
    if params.refused_by == rank():
        raise UserError("no")
    print("sees", os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
    if params.waits:
        sys.stdin.readline()
    (output.parent / f"{output.name}.{rank()}").write_text(f"{rank()} of {world_size()}")

if __name__ == "__main__":
    run(main, launch=True)
"""
TORCHRUN = (
    f"{sys.executable} -m torch.distributed.run --nproc-per-node 2 --rdzv-backend c10d --rdzv-endpoint localhost:0"
)


@pytest.fixture
def start(tmp_path):
    started = []

    def begin(section="{}", output="made", **environment):
        (tmp_path / "stages").mkdir(exist_ok=True)
        (tmp_path / "stages/__init__.py").touch()
        (tmp_path / "stages/small.py").write_text(STAGE)
        (tmp_path / "params.yaml").write_text(f"small: {section}")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("LADDER_")}
        process = subprocess.Popen(
            [sys.executable, "-m", "stages.small", output],
            cwd=tmp_path,
            env={**clean, "PYTHONPATH": str(ROOT), "LADDER_WORK": str(tmp_path / "work"), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()


def test_a_launched_stage_runs_on_every_rank(tmp_path, start):
    process = start(LADDER_LAUNCH=TORCHRUN)
    said, errors = process.communicate()
    assert process.returncode == 0, errors
    assert [(tmp_path / f"made.{rank}").read_text() for rank in (0, 1)] == ["0 of 2", "1 of 2"]
    assert "small: launched by" in said


def test_a_refusal_of_one_rank_ends_all(tmp_path, start):
    process = start("{refused_by: 1}", LADDER_LAUNCH=TORCHRUN)
    errors = process.communicate()[1]
    assert process.returncode == 1 and "small: rank 1: no\n" in errors


@pytest.mark.parametrize(
    ("line", "said"),
    [("nosuchprogram -n 2", "no program 'nosuchprogram' on PATH"), ('torchrun "', "not a command line: No closing")],
)
def test_a_launcher_that_is_none_is_refused(start, line, said):
    process = start(LADDER_LAUNCH=line)
    errors = process.communicate()[1]
    assert process.returncode == 1 and errors.startswith(f"small: LADDER_LAUNCH: {said}")


def test_the_environment_goes_before_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("LADDER_LAUNCH", "RANK"):
        monkeypatch.delenv(name, raising=False)
    assert launcher() == []
    (tmp_path / ".launch").write_text("torchrun --nproc-per-node 8\n")
    assert launcher() == ["torchrun", "--nproc-per-node", "8"]
    monkeypatch.setenv("LADDER_LAUNCH", "")
    assert launcher() == []
    monkeypatch.setenv("LADDER_LAUNCH", "srun -N2 run.sh")
    assert launcher() == ["srun", "-N2", "run.sh"]
    monkeypatch.setenv("RANK", "0")
    assert launcher() == []


def test_stages_share_gpus_and_wait_for_a_free_one(start):
    first = start("{waits: true}", LADDER_GPUS="4,7")
    assert [first.stdout.readline() for _ in range(2)] == ["on GPU 4 of 4,7\n", "sees 4\n"]
    second = start("{waits: true}", "second", LADDER_GPUS="4,7")
    assert [second.stdout.readline() for _ in range(2)] == ["on GPU 7 of 4,7\n", "sees 7\n"]
    third = start("{}", "third", LADDER_GPUS="4,7")
    assert third.stdout.readline() == "waiting: all GPUs of 4,7 are in use\n"
    first.communicate("go on\n")
    assert third.communicate()[0] == "on GPU 4 of 4,7\nsees 4\n"
    assert first.returncode == third.returncode == 0


def test_an_output_has_one_writer(tmp_path, start):
    first = start("{waits: true}")
    assert first.stdout.readline().startswith("sees ")
    errors = start("{waits: true}").communicate()[1]
    assert errors == (
        f"small: made: process {first.pid} is writing this output; expected one writer. Wait for it, or end it "
        f"(kill {first.pid}), and run again.\n"
    )
    first.communicate("go on\n")
    assert (first.returncode, start().wait()) == (0, 0)


def test_under_a_launcher_rank_zero_holds_the_lock(start):
    first = start("{waits: true}")
    assert first.stdout.readline().startswith("sees ")
    process = start(LADDER_LAUNCH=TORCHRUN)
    errors = process.communicate()[1]
    assert process.returncode == 1 and f"small: made: process {first.pid} is writing this output" in errors


PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-m', 'stages.small', 'made'])"


def test_a_stage_dies_with_the_dvc_that_started_it(tmp_path, start):
    start("{waits: true}").kill()
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DVC_STAGE": "small"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert parent.stdout.readline().startswith(b"sees ")
    os.kill(parent.pid, signal.SIGKILL)
    assert parent.stdout.read() == b""  # end of the pipe: the stage, which held the other end, has ended
    assert not list(tmp_path.glob("made.*"))


@pytest.mark.skipif(sys.platform != "linux", reason="the signal of a parent's death is Linux's")
@pytest.mark.parametrize("killed_before", [False, True], ids=["while it imports", "before it starts"])
def test_a_stage_ends_with_what_started_it(tmp_path, killed_before):
    """A parent starts a stage and is killed when only the stage's package is imported."""
    started, alive = tmp_path / "started", tmp_path / "alive"
    stage = f"import sys, pathlib; pathlib.Path({str(started)!r}).touch(); "
    stage += f"{'sys.stdin.readline(); ' * killed_before}import stages; "
    stage += f"pathlib.Path({str(alive)!r}).touch(); sys.stdin.readline()"
    parent = "import os, subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]]); sys.stdin.readline()"
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", f"{parent}; os._exit(0)", stage],
        cwd=ROOT,
        env={**os.environ, "DVC_STAGE": "sft"},
        stdin=subprocess.PIPE,
        stderr=write,
        start_new_session=True,  # as under a terminal: the process that adopts the stage is in another process group
        text=True,
    )
    os.close(write)
    assert process.stdin is not None
    while not (started if killed_before else alive).exists():
        assert process.poll() is None
    process.kill()
    process.wait()
    process.stdin.close()  # a stage that survives runs to its end
    with os.fdopen(read) as reported:  # ends when the stage has ended too
        said = reported.read()
    assert alive.exists() is not killed_before
    assert ("was killed; nothing was done" in said) is killed_before
