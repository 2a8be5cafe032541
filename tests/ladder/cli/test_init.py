"""`ladder init`: what it writes, deletes, keeps and refuses, and that an interrupted one is completed by another."""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from conftest import ROOT, write_files
from ladder.__main__ import main
from ladder.cli import init
from ladder.cli.project_source import base_of, check_rows
from ladder.integrity.lock_file import LOCK, split
from ladder.pipeline.stage import UserError, read_written

COPIED = ("ladder", "stages", "benchmarks", "recipes", "prompts", "data", "dvc.yaml", "params.yaml", "links.yaml",
          ".gitignore", ".dvcignore")  # fmt: skip
RECORDS = {
    "metrics/benchmark/ifeval/base.json": "{}\n",
    "metrics/report/base.json": "{}\n",
    "plots/sft/chat.tsv": "step\tloss\n",
    "report/table.md": "# Table\n",
}
IGNORED = {"models/sft/chat/rung.json": "{}\n", "data/prompts.jsonl": "{}\n"}
ENTRY = """\
  {name}:
    cmd: {cmd}
    deps:
    - path: code/{stage}.txt
      hash: md5
      md5: abc0
      size: 1
    params:
      params.yaml:
        {key}: {value}
    outs:
    - path: {out}
      hash: md5
      md5: abc0
      size: 1
"""
SEEDS = "    - path: data/seeds\n      hash: md5\n      md5: abc0\n      size: 1\n"
SAME = ENTRY.format(
    name="prompts", stage="prompts", cmd="python -m stages.prompts data/seeds data/prompts.jsonl", key="prompts",
    value="{}", out="data/prompts.jsonl",
).replace("    params:", f"{SEEDS}    params:")  # fmt: skip
RECORDED = (
    "schema: '2.0'\nstages:\n"
    + ENTRY.format(name="sft@chat", stage="sft", cmd="x", key="sft.chat", value="{}", out="models/sft/chat")
    + ENTRY.format(name="report", stage="report", cmd="x", key="report", value="{}", out="report/table.md")
    + SAME
)
ROWS = '{"prompt": "Who?", "completion": "I."}\n'


def git(*words):
    return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    root = tmp_path_factory.mktemp("template")
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *COPIED], cwd=ROOT,
                            check=True, capture_output=True, text=True)  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, root / name)
    before = Path.cwd()
    os.chdir(root)
    write_files({**RECORDS, **IGNORED, "dvc.lock": RECORDED})
    for command in ("git init -q", "git config user.name a", "git config user.email a@b"):
        subprocess.run(command.split(), check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], check=True)
    git("add", "-A")
    git("commit", "-qm", "demonstration")
    os.chdir(before)
    return root


@pytest.fixture
def repository(template, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(template, tmp_path / "repository"))
    (tmp_path / "faq.jsonl").write_text(ROWS)
    return Path.cwd()


def state(root):
    return {
        path.relative_to(root): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not {".git", ".dvc", "__pycache__"} & set(path.parts)
    }


def test_a_project_is_written_and_the_records_of_the_one_before_are_removed(repository, capsys):
    main(["init", "--recipe", "qlora-8b", "--data", "../faq.jsonl", "--yes"])
    said = capsys.readouterr().out
    assert "copy    ../faq.jsonl to data/raw/faq.jsonl" in said and "remove  2 records" in said
    assert Path("data/raw/faq.jsonl").read_text() == ROWS
    params = read_written()
    assert params["source"]["own"]["source"] == "faq.jsonl" and list(params["sft"]) == ["rank8", "rank16", "rank64"]
    assert not [path for path in RECORDS if Path(path).exists()] and not Path("models/sft").exists()
    assert Path("data/prompts.jsonl").exists()  # nothing that it was made of has changed
    assert list(split(LOCK.read_text()).entries) == ["prompts"]
    assert Path("data/heldout/README.md").exists()
    done = subprocess.run(
        [sys.executable, "-m", "ladder", "check"], env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    main(["init", "--recipe", "qlora-8b", "--data", "data/raw/faq.jsonl", "--yes"])
    assert capsys.readouterr().out.startswith("nothing to do: this is the project already\n")


@pytest.mark.parametrize("last", ["write_links", "delete_outputs", "drop_entries"])
def test_an_interrupted_command_is_completed_by_running_it_again(repository, monkeypatch, last, tmp_path):
    words = ["init", "--recipe", "qlora-8b", "--data", "../faq.jsonl", "--yes"]
    whole = shutil.copytree(repository, tmp_path / "whole")
    monkeypatch.chdir(whole)
    main(words)
    monkeypatch.chdir(repository)
    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(init, last, interrupted)
        main(words)
    assert state(repository) != state(whole)
    main(words)
    assert state(repository) == state(whole)


def interrupted(*_):
    raise KeyboardInterrupt


REFUSED = {
    "unknown recipe": (["--recipe", "qlora8b"], {}, r"qlora8b: no such recipe \(did you mean 'qlora-8b'\?\)"),
    "a change is no project": (["--recipe", "recipes/gpu.yaml"], {}, r"recipes/gpu.yaml: not a project; expected"),
    "no file": (["--recipe", "qlora-8b"], {}, r"--data: missing; expected a file of your rows"),
    "missing file": (["--recipe", "qlora-8b", "--data", "x.jsonl"], {}, r"--data: x.jsonl: no such file"),
    "other format": (["--recipe", "qlora-8b", "--data", "../x.txt"], {"../x.txt": "x"}, r"--data: .*x.txt: expected"),
    "no rows": (["--recipe", "qlora-8b", "--data", "../x.jsonl"], {"../x.jsonl": "\n"}, r"--data: .*x.jsonl: no r"),
    "not JSON": (["--recipe", "qlora-8b", "--data", "../x.jsonl"], {"../x.jsonl": "x\n"}, r"--data: .*x.jsonl:1: not"),
    "not Parquet": (["--recipe", "qlora-8b", "--data", "../x.parquet"], {"../x.parquet": "x"}, r"--data: .*cannot be"),
    "a name that is taken": (
        ["--recipe", "qlora-8b", "--data", "../faq.jsonl"], {"data/raw/faq.jsonl": "{}\n"},
        r"--data: data/raw/faq.jsonl exists and is another file",
    ),
    "no rows wanted": (["--recipe", "zephyr-7b", "--data", "../faq.jsonl"], {}, r"reads no file of yours"),
    "base without commit": (
        ["--recipe", "qlora-8b", "--data", "../faq.jsonl", "--base", "hub:org/name"], {},
        r"--base: source 'hub:org/name': expected @ and a commit of 40 hex digits",
    ),
    "base that is no source": (
        ["--recipe", "qlora-8b", "--data", "../faq.jsonl", "--base", "git:x"], {}, r"--base: source 'git:x': expected ",
    ),
    "base that is a wheel": (
        ["--recipe", "qlora-8b", "--data", "../faq.jsonl", "--base", "wheel:a==1/b"], {}, r"--base: .*needs a sha256",
    ),
    "changed params": (
        ["--recipe", "qlora-8b", "--data", "../faq.jsonl"], {"params.yaml": "base: {}\n"},
        r"params.yaml: changed since the last commit",
    ),
    "changed record": (
        ["--recipe", "qlora-8b", "--data", "../faq.jsonl"], {"report/table.md": "mine\n"},
        r"report/table.md: changed since the last commit",
    ),
    "uncommitted run": (
        ["--recipe", "qlora-8b", "--data", "../faq.jsonl"], {"dvc.lock": RECORDED.replace("md5: abc0", "md5: abc1")},
        r"dvc.lock: changed since the last commit",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("words", "files", "said"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_and_nothing_changes(repository, words, files, said):
    write_files(files)
    before = state(repository)
    with pytest.raises(SystemExit, match=f"^ladder: .*{said}"):
        main(["init", *words, "--yes"])
    assert state(repository) == before


def test_without_yes_a_user_is_asked(repository, capsys, monkeypatch):
    before = state(repository)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(SystemExit) as stopped:
        main(["init", "--recipe", "zephyr-7b"])
    assert stopped.value.code == 2 and state(repository) == before
    assert capsys.readouterr().err == (
        "ladder: init: --yes: missing; expected it where no user can be asked. Nothing was changed\n"
    )


def test_another_base_drops_the_chat_template_of_the_recipes_own():
    commit = "0123456789abcdef0123456789abcdef01234567"
    own = {"base": {"source": f"hub:org/one@{commit}", "sha256": None, "chat_template": "trl:qwen3_training"}}
    other, same = (f"hub:org/{name}@{commit[::-1]}" for name in ("two", "one"))
    assert base_of(own, other, Path("r.yaml")) == {"base": {"source": other, "sha256": None, "chat_template": None}}
    assert base_of(own, same, Path("r.yaml")) == {"base": {"source": same, "sha256": None}}
    assert base_of(own, "", Path("r.yaml")) == {}
    with pytest.raises(UserError, match=r"--base: missing; expected a base model, because r.yaml names none"):
        base_of({"base": {"source": "hub:ORG/NAME@COMMIT"}}, "", Path("r.yaml"))


def test_rows_of_each_format_are_accepted(tmp_path):
    parquet.write_table(pyarrow.Table.from_pylist([{"prompt": "a", "completion": "b"}]), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("prompt,completion\na,b\n")
    (tmp_path / "a.jsonl").write_text(ROWS)
    for name in ("a.parquet", "a.csv", "a.jsonl"):
        check_rows(tmp_path / name)


def test_a_project_is_shown_as_a_diff_and_never_applied_as_a_change(repository, capsys):
    before = state(repository)
    main(["recipe", "zephyr-7b", "--dry-run"])
    shown = capsys.readouterr().out
    assert shown.startswith("--- params.yaml\n+++ params.yaml\n") and "+  mtbench:\n" in shown
    with pytest.raises(SystemExit, match=r"recipes/projects/zephyr-7b.yaml: the whole params.yaml of a project"):
        main(["recipe", "zephyr-7b"])
    assert state(repository) == before
