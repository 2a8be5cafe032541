"""Which stages would run: expansion against DVC's index, reasons against `dvc status`."""

import json
import shutil
from pathlib import Path

import pytest
from dvc.repo import Repo

from ladder.pipeline.errors import UserError
from ladder.pipeline.links import write_links
from ladder.pipeline.stage import read_written, read_yaml
from ladder.plan.changes import changes, counts
from ladder.plan.expand import expand, read_lock
from stages.code import Params, main

DVC_YAML = """
stages:
  start:
    cmd: cat seeds/one.txt > ${start.out}
    deps: [seeds]
    params: [start]
    outs: ["${start.out}"]
  grow:
    foreach: ${grow}
    do:
      cmd: mkdir -p data/grow && cat data/start.txt > data/grow/${key}.txt && echo ${item.rate} ${item.deep[1]}
      deps: [data/start.txt]
      params: ["grow.${key}"]
      outs: ["data/grow/${key}.txt"]
  score:
    matrix:
      task: [a, b]
      rung: ${score.rungs}
    cmd: mkdir -p data/score/${item.task} && cat data/grow/*.txt > data/score/${item.task}/${item.rung}.txt
    deps: [data/grow]
    params: [score]
    outs: ["data/score/${item.task}/${item.rung}.txt"]
    metrics: [{"${item.task}-${item.rung}.json": {cache: false}}]
"""
PARAMS = """
start: {out: data/start.txt}
grow:
  x: {rate: 1e-05, deep: [1, true]}
  y: {rate: 2.0, deep: [no, 'null']}
score: {rungs: [one, two]}
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A small pipeline that DVC has run."""
    folder = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("seeds").mkdir()
        Path("seeds/one.txt").write_text("seed\n")
        Path("data").mkdir()
        text = DVC_YAML.replace(
            "/${item.rung}.txt\n    deps", "/${item.rung}.txt && echo '{}' > ${item.task}-${item.rung}.json\n    deps"
        )
        Path("dvc.yaml").write_text(text)
        Path("params.yaml").write_text(PARAMS)
        with Repo.init(no_scm=True) as repo:
            repo.reproduce()
    return folder


@pytest.fixture
def repo(built, tmp_path, monkeypatch):
    shutil.copytree(built, tmp_path / "repo", symlinks=True)
    monkeypatch.chdir(tmp_path / "repo")


def planned(targets=None):
    return changes(read_yaml(Path("params.yaml")), targets)


def by_dvc():
    """Stages that `dvc status` reports."""
    with Repo() as repo:
        return set(repo.status())


def running(found):
    return {name for name, change in found.items() if change.runs}


def reasons(found, name):
    return [(reason.kind, reason.text) for reason in found[name].reasons]


def test_nothing_runs_after_a_run(repo):
    found = planned()
    assert counts(found) == {"unchanged": 7}
    assert by_dvc() == set()


def test_a_changed_parameter(repo):
    Path("params.yaml").write_text(PARAMS.replace("rate: 1e-05", "rate: 2e-05"))
    found = planned()
    assert reasons(found, "grow@x") == [("command", "its command changed"), ("param", "grow.x.rate: 1e-05 -> 2e-05")]
    assert reasons(found, "score@a-one") == [("upstream", "grow@x")]
    assert running(found) == {"grow@x", "score@a-one", "score@a-two", "score@b-one", "score@b-two"}
    assert by_dvc() == {"grow@x"}  # DVC lists the others when their input has changed


def test_a_changed_file_and_a_new_one(repo):
    Path("seeds/two.txt").write_text("more\n")
    found = planned()
    assert reasons(found, "start") == [("file", "changed: seeds")]
    assert by_dvc() == {"start"}


def test_a_changed_output(repo):
    Path("data/grow/y.txt").unlink()
    Path("data/grow/y.txt").write_text("Seed\n")
    found = planned()
    assert reasons(found, "grow@y") == [("output", "output changed: data/grow/y.txt")]
    assert "grow@y" in by_dvc()


def test_missing_outputs_come_from_the_cache(repo):
    Path("data/start.txt").unlink()
    found = planned()
    assert counts(found) == {"unchanged": 6, "restored": 1}
    shutil.rmtree(".dvc/cache")
    found = planned()
    assert reasons(found, "start") == [("output", "output missing")]
    assert reasons(found, "grow@x") == [("upstream", "start")]


def test_a_missing_metric_is_named(repo):
    Path("a-one.json").unlink()
    assert planned()["score@a-one"].restored  # DVC's cache of runs keeps it as well
    shutil.rmtree(".dvc/cache")
    assert reasons(planned(), "score@a-one") == [("output", "output missing: a-one.json")]


def test_a_new_entry_and_a_target(repo):
    Path("params.yaml").write_text(PARAMS.replace("score:", "  z: {rate: 1, deep: [1, 2]}\nscore:"))
    assert reasons(planned(), "grow@z") == [("new", "no entry in dvc.lock")]
    assert list(planned(["data/grow/x.txt"])) == ["start", "grow@x"]
    with pytest.raises(UserError, match=r"grow@w: no stage, entry or output of dvc.yaml \(did you mean 'grow@"):
        planned(["grow@w"])


def test_everything_is_new_without_a_lock(repo):
    Path("dvc.lock").unlink()
    assert counts(planned()) == {"run": 7}


def test_a_value_that_params_yaml_lacks(repo):
    Path("params.yaml").write_text(PARAMS.replace("deep: [1, true]", "deep: [1]"))
    with pytest.raises(UserError, match=r"dvc.yaml: grow@x: \$\{item.deep\[1\]\} is not in params.yaml"):
        planned()


def test_a_torn_lock_is_one_error(repo):
    Path("dvc.lock").write_text("schema: '2.0'\nstages:\n  start: {cmd: [\n")
    with pytest.raises(UserError, match="dvc.lock: not YAML: .*doctor --fix"):
        planned()


CODE_YAML = """
stages:
  code:
    cmd: cp -r made code
    deps: [ladder, stages, benchmarks]
    outs: [code]
  one:
    cmd: echo 1 > one.txt
    deps: [code/one.txt]
    outs: [one.txt]
  two:
    cmd: echo 2 > two.txt
    deps: [code/two.txt]
    outs: [two.txt]
  scores:
    cmd: echo 3 > scores.txt
    deps: [code/benchmarks]
    outs: [scores.txt]
"""


@pytest.fixture
def coded(tmp_path, monkeypatch):
    """Stages with code lists: one imports ladder/a.py, two ladder/b.py, scores depends on the lists of benchmarks."""
    monkeypatch.chdir(tmp_path)
    for name, module in (("one", "a"), ("two", "b")):
        for path, text in (
            (f"stages/{name}.py", f"from ladder import {module}\n"),
            (f"ladder/{module}.py", "RATE = 1  # note\n"),
        ):
            Path(path).parent.mkdir(exist_ok=True)
            Path(path).write_text(text)
    Path("benchmarks").mkdir()
    Path("benchmarks/capitals.py").write_text("ROWS = 3\n")
    Path("params.yaml").write_text("{}\n")
    write_links({}, Path("links.yaml"))
    Path("data/raw").mkdir(parents=True)
    inputs = ("ladder", "stages", "benchmarks", "data/raw", "params.yaml", "links.yaml", "made")
    main(Params(), *map(Path, inputs))
    Path("dvc.yaml").write_text(CODE_YAML)
    with Repo.init(no_scm=True) as repo:
        repo.reproduce()


def test_code_that_a_stage_imports(coded):
    assert counts(planned()) == {"unchanged": 4}
    Path("ladder/a.py").write_text("RATE = 2  # note\n")
    found = planned()
    assert reasons(found, "code") == [("code", "ladder/a.py")]
    assert reasons(found, "one") == [("code", "ladder/a.py")]
    assert reasons(found, "two") == []
    shutil.rmtree("code")
    assert reasons(planned(), "one") == [("code", "ladder/a.py")]  # the list of the last run is in the cache
    shutil.rmtree(".dvc/cache")
    Path("ladder/a.py").write_text("RATE = 1  # note\n")
    assert reasons(planned(), "one") == []


def test_code_lists_that_stage_code_has_written_are_compared_without_reading_the_code(coded, monkeypatch):
    monkeypatch.setattr("ladder.plan.code_lists.read_imports", lambda roots: pytest.fail("read all code"))
    assert counts(planned()) == {"unchanged": 4}
    Path("dvc.yaml").write_text(CODE_YAML.replace("cp -r made code", "cp -r other code"))
    shutil.copytree("made", "other")
    Path("other/one.txt").write_text(f"{'0' * 64}  ladder/a.py\n")
    Path("other/benchmarks/capitals.txt").write_text("changed\n")
    with Repo() as repo:
        repo.reproduce("code", single_item=True)
    found = planned()
    assert reasons(found, "one") == [("code", "ladder/a.py, stages/one.py")]
    assert reasons(found, "scores") == [("code", "lists in code/benchmarks changed")]
    assert running(found) == {"one", "scores"} and by_dvc() == {"one", "scores"}


def test_a_comment_is_no_change_of_code(coded):
    Path("ladder/b.py").write_text("RATE = 1\n")
    found = planned()
    assert running(found) == {"code"}  # DVC runs it, and its lists stay the same
    assert by_dvc() == {"code"}


def test_scalars_are_those_of_yaml_1_2(tmp_path):
    # as DVC writes them: it quotes a text that another version would read as a number
    lines = "{a: 1e-05, b: no, c: 'no', d: 0o17, e: '017', f: true, g: ~, h: 1.5, i: -3, j: 12:30, k: 2025-01-31x, "
    lines += "l: '1_0', m: .5, n: 1e5, o: +2, p: Null}"
    lock = tmp_path / "dvc.lock"
    lock.write_text(f"stages:\n  one: {lines}\n")
    expected = read_yaml(lock)["stages"]["one"]
    assert json.dumps(read_lock(lock)["one"]) == json.dumps(expected)


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_pipeline_expands_as_dvc_expands_it(seeds, tmp_path, monkeypatch):
    params = read_written()
    if seeds > 1:
        params["report"]["seeds"] = params["claims"]["seeds"] = seeds
        for name in ("dvc.yaml", ".dvcignore"):
            shutil.copy(name, tmp_path)
        monkeypatch.chdir(tmp_path)
        Repo.init(no_scm=True).close()
        Path("params.yaml").write_text(json.dumps(params))
        write_links(params)
    stages = expand(params)
    with Repo() as repo:
        theirs = {stage.addressing: stage for stage in repo.index.stages if "@" in stage.addressing or stage.cmd}
        assert set(stages) == set(theirs)
        for name, stage in stages.items():
            assert stage.cmd == theirs[name].cmd
            paths = {
                dep.def_path
                for dep in theirs[name].deps
                if dep.def_path not in ("params.yaml", "links.yaml") or dep.def_path in stage.deps
            }
            assert set(stage.deps) == paths
            tracked = {dep.def_path: dep.params for dep in theirs[name].deps if hasattr(dep, "params")}
            assert set(stage.params) == set(tracked["params.yaml"])
            assert set(stage.linked) == set(tracked.get("links.yaml", []))
            assert set(stage.outs) == {out.def_path for out in theirs[name].outs}
