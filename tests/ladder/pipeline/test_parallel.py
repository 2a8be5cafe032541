"""Stages that run at the same time leave the records of a sequential `dvc repro`."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ladder.pipeline.errors import UserError
from ladder.pipeline.parallel import Schedule, by_depth, environments, jobs_of, last_lines
from ladder.pipeline.stage import read_yaml

ABOVE = {"a": set(), "b": set(), "c": {"a"}, "d": {"c"}, "e": {"b", "d"}}
PIPELINE = """
stages:
  a: {cmd: "echo a > a; echo $$ > a.pid; while [ ! -e b.pid ]; do sleep 0.02; done", outs: [a]}
  b: {cmd: "echo b > b; echo $$ > b.pid; while [ ! -e a.pid ]; do sleep 0.02; done", outs: [b]}
  c: {cmd: "cat a b > c", deps: [a, b], outs: [c], metrics: []}
  bad: {cmd: "echo the cause; exit 3", deps: [b], outs: [bad]}
  d: {cmd: "cat bad > d", deps: [bad], outs: [d]}
"""
RUN = """
import sys
from dvc.cli import main
from ladder.cli.progress import stages_announced
with stages_announced(sys.argv[2:], int(sys.argv[1])):
    sys.exit(main(["repro", *sys.argv[2:]]))
"""


@pytest.fixture
def repository(tmp_path):
    subprocess.run(["dvc", "init", "--no-scm", "--quiet"], cwd=tmp_path, check=True)
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    return tmp_path


def repro(folder, jobs, *options):
    command = [sys.executable, "-c", RUN, str(jobs), *options]
    root = str(Path(__file__).resolve().parents[3])
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": root}
    )


def test_stages_run_at_the_same_time_and_dvc_has_nothing_to_do_afterwards(repository):
    ran = repro(repository, 2, "c")  # a and b wait for each other
    assert ran.returncode == 0, ran.stderr
    assert re.findall(r"^stage (\d): (\w)$", ran.stdout, re.M) == [("1", "a"), ("2", "b"), ("3", "c")]
    parallel = read_yaml(repository / "dvc.lock")
    assert (repository / "c").read_text() == "a\nb\n"
    again = subprocess.run(["dvc", "repro", "c"], cwd=repository, capture_output=True, text=True, check=True)
    assert "Data and pipelines are up to date." in again.stdout
    (repository / "dvc.lock").unlink()
    shutil.rmtree(repository / ".dvc/cache")
    subprocess.run(["dvc", "repro", "c"], cwd=repository, capture_output=True, check=True)
    assert read_yaml(repository / "dvc.lock") == parallel  # in any order


def test_a_failure_stops_what_depends_on_it_and_its_log_is_shown(repository):
    ran = repro(repository, 2, "--keep-going")
    assert ran.returncode != 0
    assert "bad: failed: failed to run: echo the cause; exit 3, exited with 3" in ran.stdout
    assert "\n  the cause\n" in ran.stdout
    assert "did not start, because of the failure above: d\n" in ran.stdout
    assert (repository / "c").is_file() and not (repository / "d").exists()
    assert (
        not (repository / ".dvc/tmp/lock").read_text()
        or subprocess.run(["dvc", "status"], cwd=repository).returncode == 0
    )


def test_an_interrupt_ends_all_commands(repository):
    (repository / "wait.py").write_text(
        "import os, sys, time\nwith open(sys.argv[1], 'w') as file:\n    file.write(str(os.getpid()))\ntime.sleep(60)\n"
    )
    stages = "".join(f"  {name}: {{cmd: python wait.py {name}.pid, outs: [{name}]}}\n" for name in "ab")
    (repository / "dvc.yaml").write_text(f"stages:\n{stages}")
    root = str(Path(__file__).resolve().parents[3])
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, "2"],
        cwd=repository,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )
    for line in process.stdout:
        if line.startswith("stage 2"):
            break
    pids = [repository / "a.pid", repository / "b.pid"]
    while not all(path.is_file() and path.read_text().strip() for path in pids):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) != 0
    for path in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.read_text()), 0)


def test_a_stage_knows_its_scheduler_with_and_without_a_shell_between(repository):
    (repository / "stage.py").write_text(
        "import sys\nfrom ladder.pipeline.launch import die_with_parent\n\n"
        "die_with_parent()\nopen(sys.argv[1], 'w').close()\n"
    )
    (repository / "dvc.yaml").write_text(
        "stages:\n  a: {cmd: python stage.py a, outs: [a]}\n  b: {cmd: 'true; python stage.py b; true', outs: [b]}\n"
    )
    ran = repro(repository, 2)
    assert ran.returncode == 0, ran.stdout
    assert (repository / "a").is_file() and (repository / "b").is_file()


def test_the_longest_chain_starts_first():
    assert by_depth(list(ABOVE), ABOVE) == {"a": 3, "b": 1, "c": 2, "d": 1, "e": 0}
    schedule = Schedule(["b", "a", "c", "d", "e"], ABOVE)
    assert [schedule.next(stop_at_failure=True) for _ in range(3)] == ["a", "b", None]
    schedule.ended.add("a")
    assert schedule.next(stop_at_failure=True) == "c"
    schedule.failed["c"] = ValueError()
    assert schedule.next(stop_at_failure=True) is None


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", ""])
def test_other_numbers_of_jobs_are_refused(text):
    with pytest.raises(UserError, match="--jobs: expected a number of at least 1, or auto"):
        jobs_of(text)


def test_each_job_has_a_gpu_or_a_share_of_the_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert environments(4) == [{"OMP_NUM_THREADS": "2", "LADDER_SCHEDULER": str(os.getpid())}] * 4
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-a")
    assert jobs_of("auto") == 2
    assert [each["CUDA_VISIBLE_DEVICES"] for each in environments(3)] == ["3", "GPU-a", "3"]
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert environments(2)[0]["OMP_NUM_THREADS"] == "5"
    monkeypatch.setenv("LADDER_LAUNCH", "launch/ddp.yaml")
    assert jobs_of("auto") == 1
    with pytest.raises(UserError, match="LADDER_LAUNCH"):
        jobs_of("2")


def test_the_steps_of_a_progress_bar_are_not_shown(tmp_path):
    log = tmp_path / "log"
    log.write_text("start\n 0%\r 50%\r100%\n\nValueError: x\n")
    assert last_lines(log) == "  start\n  100%\n  ValueError: x"
