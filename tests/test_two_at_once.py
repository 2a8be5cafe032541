"""Two `dvc repro` of one stage in one folder: DVC rejects the second, and a killed one does not block others."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from perf.repository import copy_repository

REPRO = ["dvc", "repro", "--single-item", "prompts"]
WAITING = """#!/bin/sh
cat {gate} > /dev/null
exec {python} "$@"
"""


class Repository:
    """A copy of this repository whose stages wait at a gate, a named pipe, until it is opened and closed again."""

    def __init__(self, folder: Path) -> None:
        self.root, self.gate = folder / "ladder", folder / "gate"
        environment = copy_repository(self.root)
        code = [
            sys.executable,
            "-m",
            "stages.code",
            "ladder",
            "stages",
            "benchmarks",
            "data/raw",
            "params.yaml",
            "links.yaml",
            "code",
        ]
        subprocess.run(code, cwd=self.root, env=environment, check=True)
        os.mkfifo(self.gate)
        python = folder / "bin/python"
        python.parent.mkdir()
        python.write_text(WAITING.format(gate=self.gate, python=sys.executable))
        python.chmod(0o755)
        self.waiting = {**environment, "PATH": f"{python.parent}:{environment['PATH']}"}
        self.environment = environment

    def start(self) -> tuple[subprocess.Popen[str], int]:
        """Start `dvc repro`, whose stage waits at the gate; return both; closing the gate releases it."""
        process = subprocess.Popen(
            REPRO,
            cwd=self.root,
            env=self.waiting,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        until = time.monotonic() + 120
        while time.monotonic() < until and process.poll() is None:
            with contextlib.suppress(OSError):  # no stage reads from the other end yet
                return process, os.open(self.gate, os.O_WRONLY | os.O_NONBLOCK)
            time.sleep(0.05)
        raise AssertionError(process.communicate()[0])

    def repro(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(REPRO, cwd=self.root, env=self.environment, capture_output=True, text=True)

    @property
    def prompts(self) -> Path:
        return self.root / "data/prompts.jsonl"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return Repository(tmp_path_factory.mktemp("two"))


def test_a_second_repro_of_a_running_stage_is_refused_by_the_pid_of_the_first(
    repository: Repository, tmp_path: Path
) -> None:
    first, gate = repository.start()
    second = repository.repro()
    assert second.returncode != 0 and not repository.prompts.exists()
    assert re.search(rf"is busy, it is being blocked by:\s+\(PID {first.pid}\)", second.stderr), second.stderr
    assert "Traceback" not in second.stderr
    os.close(gate)
    said = first.communicate()[0]
    assert first.returncode == 0, said
    alone = [sys.executable, "-m", "stages.prompts", "data/seeds", str(tmp_path / "prompts.jsonl")]
    subprocess.run(alone, cwd=repository.root, env=repository.environment, check=True)
    assert repository.prompts.read_bytes() == (tmp_path / "prompts.jsonl").read_bytes()
    assert "didn't change, skipping" in repository.repro().stdout


def test_a_killed_repro_does_not_block_others(repository: Repository) -> None:
    repository.repro()
    before = repository.prompts.read_bytes()
    repository.prompts.unlink()
    (repository.root / "dvc.lock").unlink()
    (repository.root / ".dvc/cache/runs").rename(repository.root / "runs")  # the stage has to run
    first, gate = repository.start()
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    os.close(gate)
    second = repository.repro()
    assert second.returncode == 0 and "Running stage 'prompts'" in second.stdout, second.stderr
    assert repository.prompts.read_bytes() == before


def test_outputs_of_a_stage_that_ended_before_dvc_was_killed_can_be_recorded(repository: Repository) -> None:
    """DVC would delete them and run the stage again; `dvc commit` records the files."""
    (repository.root / "dvc.lock").unlink(missing_ok=True)
    stage = [sys.executable, "-m", "stages.prompts", "data/seeds", "data/prompts.jsonl"]
    subprocess.run(stage, cwd=repository.root, env=repository.environment, check=True)
    commit = ["dvc", "commit", "--force", "prompts"]
    subprocess.run(commit, cwd=repository.root, env=repository.environment, check=True)
    assert "didn't change, skipping" in repository.repro().stdout
