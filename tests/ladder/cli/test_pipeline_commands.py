"""`ladder repro`, `status` and `check`: DVC's results, current code lists, and states that are remembered."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from conftest import ROOT
from ladder.__main__ import main
from ladder.cli import pipeline_commands
from ladder.pipeline import snapshot

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
"""
DONE = "Data and pipelines are up to date.\n"


def ladder(*words):
    """Exit code, stdout and stderr. Own process: DVC's log keeps the streams of its first import."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "ladder", *words], env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def call(*words, folder="."):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    return subprocess.run(words, cwd=folder, env=environment, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    root = tmp_path_factory.mktemp("template")
    (root / "stages").mkdir()
    for name in ("code", "made"):
        (root / f"stages/{name}.py").write_text("x = 1\n")
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / "params.yaml").write_text("code: {}\nmade: {one: 1, two: 2}\n")
    (root / "input.txt").write_text("seen\n")
    (root / "linked").symlink_to("input.txt")
    for command in ("git init -q", "git config user.name a", "git config user.email a@b", "dvc init -q"):
        call(*command.split(), folder=root)
    for command in ("dvc repro -q", "git add -A", "git commit -qm first"):
        call(*command.split(), folder=root)
    return root


@pytest.fixture
def repository(template, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(template, tmp_path / "repository", symlinks=True))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    return Path.cwd()


def entries(folder):
    return YAML(typ="safe").load((folder / "dvc.lock").read_text())


def test_the_result_is_that_of_dvc(repository, tmp_path):
    other = shutil.copytree(repository, tmp_path / "other", symlinks=True)
    for folder in (repository, other):
        (folder / "params.yaml").write_text("code: {}\nmade: {one: 3, three: 4}\n")
        (folder / "stages/made.py").write_text("x = 2\n")
    _, out, _ = ladder("repro")
    ran = [line for line in out.splitlines() if line.startswith("Running stage")]
    call("dvc", "repro", folder=other)
    assert ran == ["Running stage 'made@one':", "Running stage 'made@three':"]  # code ran first, on its own
    assert (repository / "dvc.lock").read_bytes() == (other / "dvc.lock").read_bytes()
    assert (repository / "data/one.txt").read_text() == "one seen 3\n"


def test_what_has_nothing_to_do_is_remembered_and_each_change_is_seen(repository):
    for loud in (True, False):  # the second time, DVC is not asked
        code, found, _ = ladder("repro")
        assert code == 0 and found.endswith(DONE) and (found != DONE) == loud
    Path("input.txt").write_text("new\n")
    assert "Running stage 'made@two'" in ladder("repro")[1]
    assert Path("data/two.txt").read_text() == "two new 2\n"


CHANGES = {
    "parameter": lambda: Path("params.yaml").write_text("code: {}\nmade: {one: 1, two: 3}\n"),
    "parameter of equal size": lambda: Path("params.yaml").write_text("code: {}\nmade: {one: 1, two: 9}\n"),
    "code": lambda: Path("stages/made.py").write_text("x = 2\n"),
    "new code": lambda: Path("stages/more.py").write_text("\n"),
    "pipeline": lambda: Path("dvc.yaml").write_text(PIPELINE + "\n"),
    "lock": lambda: Path("dvc.lock").write_text(Path("dvc.lock").read_text() + "\n"),
    "touched input": lambda: os.utime("input.txt"),
    "input of a link": lambda: Path("input.txt").write_text("????\n"),
    "touched output": lambda: os.utime("data/one.txt"),
    "output": lambda: Path("data/one.txt").write_text("one seen 9\n"),
    "removed output": lambda: Path("data/one.txt").unlink(),
    "swapped outputs": lambda: Path("data/one.txt").replace("data/two.txt"),
    "link": lambda: (Path("linked").unlink(), Path("linked").symlink_to("dvc.yaml")),
    "mode": lambda: Path("input.txt").chmod(0o600),
    "object of the cache": lambda: next(p for p in Path(".dvc/cache").rglob("*") if p.is_file()).unlink(),
    "configuration of DVC": lambda: Path(".dvc/config.local").write_text("[core]\n    remote = x\n"),
    "user's configuration of DVC": lambda: write(Path.home() / ".config/dvc/config", "[core]\n"),
    "ignored files": lambda: Path(".dvcignore").write_text("x\n"),
    "commit": lambda: call("git", "commit", "-qm", "next", "--allow-empty"),
    "tag": lambda: call("git", "tag", "v1"),
}


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_state_with_a_change_is_another(repository, change):
    roots = [str(repository / ".dvc/cache")]
    snapshot.remember("it", snapshot.settled(roots), roots, ["clean"])
    assert snapshot.recall("it") == ["clean"] and snapshot.recall("other") is None
    change()
    assert snapshot.recall("it") is None


def test_a_write_that_restores_size_and_modification_time_is_seen(repository):
    snapshot.remember("it", snapshot.settled(), [])
    before = Path("input.txt").stat()
    Path("input.txt").write_text("SEEN\n")
    os.utime("input.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert snapshot.recall("it") is None


def test_variables_that_dvc_and_stages_read_are_part_of_the_state(repository, monkeypatch):
    snapshot.remember("it", snapshot.settled(), [])
    monkeypatch.setenv("SOMETHING", "else")
    assert snapshot.recall("it") == []
    monkeypatch.setenv("LADDER_LAUNCH", "torchrun")
    assert snapshot.recall("it") is None


def test_a_state_that_changed_meanwhile_or_may_yet_change_unseen_is_not_recorded(repository):
    walk = snapshot.settled()
    Path("input.txt").write_text("else\n")
    snapshot.remember("it", walk, [])
    assert snapshot.recall("it") is None
    ahead = walk.newest + 3600 * 10**9
    os.utime("input.txt", ns=(ahead, ahead))
    snapshot.remember("it", snapshot.settled(), [])
    assert snapshot.recall("it") is None
    snapshot.RECORD.parent.mkdir(parents=True, exist_ok=True)
    snapshot.RECORD.write_text("{")
    assert snapshot.recall("it") is None


def test_an_edit_of_code_is_seen_without_a_first_step(repository):
    Path("stages/made.py").write_text("x = 2\n")
    assert "made@one" not in call("dvc", "status")
    _, out, err = ladder("status")
    assert "made@one:" in out and "made@two:" in out and "\ncode:" not in out
    assert "stage code listed again" in err
    assert "Running stage 'made@one'" in ladder("repro", "--single-item", "made@one")[1]
    assert list(json.loads(ladder("status", "--json")[1])) == ["made@two"]
    recorded = entries(Path())["stages"]["code"]
    call("dvc", "repro", "--force", "--single-item", "code")
    assert entries(Path())["stages"]["code"] == recorded


def test_a_misspelt_stage_is_refused_with_the_nearest(repository):
    for words, said in [
        (["repro", "made@onee"], r"made@onee: no such stage in dvc.yaml \(did you mean 'made@one'\?\)"),
        (["status", "mad"], r"mad: no such stage in dvc.yaml \(did you mean 'made'\?\)"),
    ]:
        with pytest.raises(SystemExit, match=f"^ladder: {said}$"):
            main(words)
    main(["repro", "made"])  # all of its entries


def test_a_stage_that_fails_ends_with_1(repository):
    Path("dvc.yaml").write_text(PIPELINE.replace("mkdir -p data", "false"))
    code, _, err = ladder("repro")
    assert code == 1 and "failed to reproduce 'made@one'" in err
    assert snapshot.recall("repro []") is None


def test_check_is_remembered_while_nothing_changes(repository, capfd):
    shutil.rmtree("stages")
    Path("stages").mkdir()
    for name in ("code", "punkt"):
        Path(f"stages/{name}.py").symlink_to(ROOT / f"stages/{name}.py")
    Path("dvc.yaml").write_text(
        "stages:\n  code:\n    cmd: mkdir -p code && touch code/punkt.txt\n    deps: [stages, params.yaml]\n"
        "    params: [code]\n    outs: [code]\n  punkt:\n    cmd: 'true'\n    deps: [code/punkt.txt]\n"
        "    params: [punkt]\n    outs: [punkt]\n"
    )
    Path("params.yaml").write_text("code: {}\npunkt: {source: input.txt, sha256: null}\n")
    Path("dvc.lock").unlink()
    call("git", "rm", "-q", "--cached", "dvc.lock")
    call("git", "commit", "-qm", "no lock")
    for recorded in (None, []):  # the first one lists what the stages import, which changes dvc.lock
        main(["check"])
        assert capfd.readouterr() == ("", "") and snapshot.recall("check") == recorded
    assert entries(Path())["stages"]["code"]["outs"][0]["path"] == "code"
    main(["check", "--json"])
    assert capfd.readouterr().out == '{\n  "ok": true,\n  "faults": [],\n  "information": []\n}\n'
    Path("params.yaml").write_text("code: {}\npunkt: {sorce: input.txt, sha256: null}\n")
    with pytest.raises(SystemExit) as stopped:
        main(["check"])
    found = capfd.readouterr()
    assert stopped.value.code == 1 and found.out == ""
    assert "params.yaml:2: punkt.sorce: no such key (did you mean 'source'?)" in found.err
    assert snapshot.recall("check") is None


def test_a_long_run_is_confirmed_so_that_the_next_is_fast(repository, monkeypatch):
    monkeypatch.setattr(pipeline_commands, "LONG_SECONDS", 0)
    Path("input.txt").write_text("new\n")
    main(["repro"])
    assert Path("data/two.txt").read_text() == "two new 2\n"
    assert snapshot.recall("repro []") == [DONE.strip()]
    Path("dvc.yaml").write_text(PIPELINE.replace("cat input.txt)", "cat input.txt; date +%N > input.txt)"))
    main(["repro", "made@two"])  # changes its own input, as a user may while it runs
    assert snapshot.recall('repro ["made@two"]') is None
