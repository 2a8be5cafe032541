"""The line before each stage of `ladder repro`, and that DVC's own output, exit codes and signals stay."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from ladder.cli.progress import Progress, shown
from ladder.plan.changes import Change, Reason
from ladder.plan.durations import Basis, Durations
from ladder.plan.expand import Stage

STEPS = ["base", "task", "sft", "dpo", "report"]
OUTPUT, NEW = Reason("output", "output missing"), Reason("new", "no entry in dvc.lock")


def upstream(*names):
    return tuple(Reason("upstream", name) for name in names)


def progress(reasons, *options, seconds=60.0):
    found = {name: Change(Stage(name, name, "x", (), (), ()), reasons.get(name, ())) for name in STEPS}
    made = Progress(options, lambda: (found, Durations({name: Basis("measured", seconds) for name in STEPS})))
    made.evaluated(STEPS, ["report/table.json"])
    return made


def test_only_stages_that_will_run_are_counted():
    made = progress({"task": (NEW,), "sft": (NEW,), "dpo": upstream("sft"), "report": upstream("task", "dpo")})
    made.passed("base", changed=False)
    assert made.begin("task") == "stage 1 of 4, about 4 min left"
    made.end("task", 60.0)
    made.passed("task", changed=True)
    assert made.begin("sft") == "stage 2 of 4, about 3 min left"
    made.end("sft", 120.0)  # 180 s where 120 were expected: half as long again
    made.passed("sft", changed=True)
    assert made.begin("dpo") == "stage 3 of 4, about 3 min left"
    made.end("dpo", 60.0)
    made.passed("dpo", changed=True)
    assert made.begin("report") == "stage 4 of 4, about 80 s left"
    assert made.ran == ["task", "sft", "dpo", "report"]
    assert made.covers("report/table.json") and not made.covers("models/sft")


def test_a_stage_that_dvc_skips_leaves_the_count_with_what_depends_on_it_alone():
    made = progress({"base": (NEW,), "task": upstream("base"), "sft": upstream("task"), "report": (NEW,)})
    assert made.begin("base") == "stage 1 of 4, about 4 min left"
    made.passed("base", changed=True)
    made.passed("task", changed=False)  # the base was the same again
    made.passed("sft", changed=False)
    made.passed("dpo", changed=False)
    assert made.begin("report") == "stage 2 of 2, about 60 s left"


def test_outputs_from_the_cache_change_what_is_below_them_and_are_not_counted():
    made = progress({"task": (NEW,), "sft": (NEW,), "dpo": upstream("sft")})
    assert made.begin("task") == "stage 1 of 3, about 3 min left"
    made.passed("task", changed=True)
    made.passed("sft", changed=True)  # restored: its command did not run
    assert made.begin("dpo") == "stage 2 of 2, about 60 s left"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ([], "stage 1 of 2, about 2 min left"),
        (["--allow-missing"], "stage 1 of 1, about 60 s left"),
        (["--pull"], "stage 1 of 1, about 60 s left"),
        (["--force"], "stage 1 of 5, about 5 min left"),
    ],
)
def test_options_of_dvc_that_decide_what_runs(options, line):
    assert progress({"base": (NEW,), "dpo": (OUTPUT,)}, *options).begin("base") == line


def test_without_a_basis_no_time_and_without_a_plan_no_total():
    made = progress({"base": (NEW,), "dpo": (NEW,)}, seconds=None)
    assert made.begin("base") == "stage 1 of 2"
    blind = Progress([], lambda: None)
    blind.evaluated(STEPS, [])
    assert [blind.begin("base"), blind.begin("sft")] == ["stage 1", "stage 2"]
    blind.end("base", 1.0)


def test_durations_for_a_reader():
    seconds = (0.2, 14, 16, 89, 91, 329, 5399, 5400, 9000)
    assert [shown(each) for each in seconds] == [
        "10 s", "10 s", "20 s", "90 s", "2 min", "5 min", "90 min", "1.5 h", "2.5 h"
    ]  # fmt: skip


PIPELINE = """\
stages:
  code:
    cmd: mkdir -p code && cat stages/*.py > code/made.txt
    deps: [stages, params.yaml]
    params: [code]
    outs: [code]
  made:
    foreach: ${made}
    do:
      cmd: mkdir -p data && echo ${key} $(cat input.txt) ${item} > data/${key}.txt
      deps: [code/made.txt, input.txt]
      params: ["made.${key}"]
      outs: ["data/${key}.txt"]
  last:
    cmd: cat data/one.txt data/two.txt > last.txt && cat $(cat pipe.txt)
    deps: [data/one.txt, data/two.txt, pipe.txt]
    params: [last]
    outs: [last.txt]
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    root = tmp_path_factory.mktemp("template")
    (root / "stages").mkdir()
    for name in ("code", "made", "last"):
        (root / f"stages/{name}.py").write_text("x = 1\n")
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / "params.yaml").write_text("code: {}\nmade: {one: 1, two: 2}\nlast: {}\n")
    (root / "input.txt").write_text("seen\n")
    (root / "pipe.txt").write_text("input.txt\n")
    for command in ("git init -q", "dvc init -q"):
        call(root, *command.split())
    return root


@pytest.fixture
def repository(template, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(template, tmp_path / "repository", symlinks=True))
    return Path.cwd()


def environment():
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}


def call(folder, *words):
    return subprocess.run(words, cwd=folder, env=environment(), capture_output=True, text=True)


def lines(text):
    return re.findall(r"^(?:stage .*|Running stage .*|Data and .*|\d+ stages? ran.*)$", text, re.MULTILINE)


def test_a_line_comes_before_each_stage_and_dvc_gives_the_same_result(repository, tmp_path):
    other = shutil.copytree(repository, tmp_path / "other", symlinks=True)
    done = call(repository, sys.executable, "-m", "ladder", "repro")
    assert done.returncode == 0, done.stderr
    assert lines(re.sub(r", about .* left", "", done.stdout)) == [
        "stage 1 of 3", "Running stage 'made@one':",
        "stage 2 of 3", "Running stage 'made@two':",
        "stage 3 of 3", "Running stage 'last':",
        "3 stages ran in 10 s. `ladder repro report` brings the table of rungs up to date.",
    ]  # fmt: skip
    plain = call(other, "dvc", "repro")
    assert lines(plain.stdout)[1:] == [f"Running stage '{name}':" for name in ("made@one", "made@two", "last")]
    assert (repository / "dvc.lock").read_bytes() == (other / "dvc.lock").read_bytes()
    assert lines(call(repository, sys.executable, "-m", "ladder", "repro").stdout) == [
        "Data and pipelines are up to date."
    ]
    forced = call(repository, sys.executable, "-m", "ladder", "repro", "--force", "--single-item", "made@two")
    assert lines(forced.stdout)[0] == "stage 1 of 1, about 10 s left"  # it ran here before
    assert lines(call(repository, sys.executable, "-m", "ladder", "repro", "--force", "--dry").stdout)[0] == (
        "Running stage 'code':"
    )


def test_a_failure_keeps_the_exit_code_and_prints_no_summary(repository):
    (repository / "pipe.txt").write_text("no-such-file\n")
    done = call(repository, sys.executable, "-m", "ladder", "repro")
    assert done.returncode == 1 and "failed to reproduce 'last'" in done.stderr
    assert lines(done.stdout)[-1] == "Running stage 'last':"


def test_ctrl_c_in_a_stage_ends_the_run_as_with_dvc_and_prints_no_summary(repository):
    os.mkfifo(repository / "waits")
    (repository / "pipe.txt").write_text("waits\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "ladder", "repro"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )
    with (repository / "waits").open("w"):  # the last stage reads it
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 1 and "failed to reproduce 'last'" in err  # DVC reports the stage as failed
    assert lines(out)[-1] == "Running stage 'last':" and "ran in" not in out
