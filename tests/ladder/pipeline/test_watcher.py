"""Stages ended by real signals, started as DVC and torchrun start them, from a package of stages."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from ladder.pipeline.watcher import TRAINING, sentence

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="process descriptors are Linux's")
STAGE = """
import ctypes, os, signal, sys
from pathlib import Path
from ladder.pipeline import watcher
from ladder.pipeline.stage import Config, run

class Params(Config):
    ends_by: str | None = None
    on_rank: int = 0

def main(params: Params, output: Path) -> None:
    watcher.report("step 3 of 40")
    if params.ends_by and params.on_rank == int(os.environ.get("RANK", "0")):
        if params.ends_by == "fault":
            ctypes.string_at(0)
        if params.ends_by == "exit":
            os._exit(3)
        if os.fork() == 0:  # it keeps the stage's files open
            sys.stdin.readline()
            os._exit(0)
        os.kill(os.getpid(), getattr(signal, params.ends_by))
    output.write_text("made")

if __name__ == "__main__":
    run(main, launch=True)
"""
AGAIN = "Run again: it resumes from the last saved state.\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/__init__.py").write_text((ROOT / "stages/__init__.py").read_text())
    (tmp_path / "stages/small.py").write_text(STAGE)
    return tmp_path


def ended(folder, section="{}", command=(sys.executable, "-m", "stages.small", "made"), **environment):
    """Return the exit code, and the output of the stage and its watcher: the pipe ends with the last of them."""
    (folder / "params.yaml").write_text(f"small: {section}")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LADDER_")}
    environment = {**clean, "PYTHONPATH": str(ROOT), "LADDER_WORK": str(folder / "work"), **environment}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # nohup ignores it
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGHUP", "SIGUSR1"])
def test_a_stage_that_a_signal_ends_is_reported(folder, name):
    code, said = ended(folder, f"{{ends_by: {name}}}")
    assert code == -getattr(signal, name)
    assert said.startswith(f"small: killed by {name} at step 3 of 40") and said.count("\n") == 1
    assert said.endswith(f": ended by another process (kill, a scheduler, a time limit). {AGAIN}")


def test_a_fault_in_compiled_code_is_reported_with_its_place(folder):
    code, said = ended(folder, "{ends_by: fault}")
    assert code == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in said and "small.py" in said
    assert "small: killed by SIGSEGV at step 3 of 40" in said and said.endswith(AGAIN)


@pytest.mark.parametrize(("section", "code"), [("{}", 0), ("{ends_by: exit}", 3)])
def test_a_stage_that_ends_by_itself_is_not_reported(folder, section, code):
    assert ended(folder, section) == (code, "")


def test_a_stage_that_has_leased_a_gpu_is_reported_once(folder):
    """It has executed itself again under the same PID, and is watched again."""
    code, said = ended(folder, "{ends_by: SIGKILL}", LADDER_GPUS="0")
    assert code == -signal.SIGKILL and said.count("\n") == 1 and said.startswith("small: killed by SIGKILL at step 3")


def test_a_refusal_is_its_one_line(folder):
    assert ended(folder, "{ends_by: 3}")[1].startswith("small: params.yaml: small.ends_by: ")


def test_dvc_shows_the_report(folder):
    """DVC itself reports only that the command failed."""
    cmd = f"{sys.executable} -m stages.small made"
    (folder / "dvc.yaml").write_text(f"stages:\n  small:\n    cmd: {cmd}\n    params: [small]\n    outs: [made]\n")
    dvc = [sys.executable, "-m", "dvc"]
    assert ended(folder, command=[*dvc, "init", "--no-scm", "-q"])[0] == 0
    code, said = ended(folder, "{ends_by: SIGKILL}", [*dvc, "repro"])
    assert code and "failed to run" in said and "small: killed by SIGKILL at step 3 of 40" in said


def test_under_a_launcher_the_rank_is_named(folder):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    code, said = ended(
        folder,
        "{ends_by: SIGKILL, on_rank: 1}",
        LADDER_LAUNCH=" ".join([*torchrun, "--rdzv-endpoint", "localhost:0"]),
        DVC_STAGE="small@x",
    )
    assert code == 1 and "small@x (rank 1): killed by SIGKILL at step 3 of 40" in said
    assert "killed by SIGTERM" not in said  # the launcher kills the other rank


def test_no_watcher_outlives_its_stage(folder):
    """Watchers are identified by their working directory."""
    for section in ("{}", "{ends_by: SIGKILL}", "{ends_by: exit}"):
        ended(folder, section)
    found = []
    for process in Path("/proc").glob("[1-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if (process / "cwd").readlink() == folder:
                found.append((process / "cmdline").read_text())
    assert not [line for line in found if "watcher.py" in line]


GB = 10**9


@pytest.mark.parametrize(
    ("lines", "number", "peak", "kernel", "expected"),
    [
        (["ppo@words", "step 36 of 40"], 9, 20 * GB, False, "it probably ran out of memory. " + TRAINING),
        (["ppo@words", "step 36 of 40"], 9, 2 * GB, True, "the kernel ran out of memory. " + TRAINING),
        (
            ["filter@chat"],
            9,
            20 * GB,
            False,
            "it probably ran out of memory. Lower the stage's batch or max_new_tokens",
        ),
        (
            ["filter@chat"],
            None,
            20 * GB,
            False,
            "ended without a message; peak resident memory 20.0 GB of 24.0 GB: it probably",
        ),
        (["filter@chat"], 9, 19 * GB, False, "peak resident memory 19.0 GB of 24.0 GB: ended by another process"),
        (["filter@chat"], 15, 20 * GB, True, "ended by another process"),
    ],
)
def test_memory_is_named_where_it_was_full(lines, number, peak, kernel, expected):
    assert expected in sentence(lines, number, peak, 24 * GB, kernel)
