"""Defaults of entries: the keys that an entry inherits, the entries that DVC runs again, and refusals."""

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import write_files
from ladder.pipeline.defaults import default_faults, inherited, with_defaults
from ladder.pipeline.links import links, write_links
from ladder.pipeline.stage import read_yaml

PARAMS = {
    "defaults": {"sft": {"parent": "base", "lora": {"r": 16, "alpha": 32}, "trainer": {"rate": 0.1, "steps": 5}}},
    "sft": {
        "rank4": {"lora": {"r": 4}},
        "fast": {"trainer": {"rate": 0.5}},
        "full": {"lora": None, "parent": "sft/fast"},
        "own": {"parent": "base", "lora": {"r": 1, "alpha": 2}, "trainer": {"rate": 0.1, "steps": 5}},
    },
}
PIPELINE = """
vars: [links.yaml]
stages:
  sft:
    foreach: ${sft}
    do:
      cmd: mkdir -p out && echo ${key} ${item.parent} >> out/${key}.txt
      params: ["sft.${key}", {"${item.tracked}": ["sft.${key}"]}]
      outs: ["out/${key}.txt": {persist: true}]
"""
WRITTEN = """\
defaults:
  sft: {parent: base, lora: {r: 16, alpha: 32}, trainer: {rate: 0.1, steps: 5}}
sft:
  rank4: {lora: {r: 4}}
  fast: {trainer: {rate: 0.5}}
  own: {parent: base, lora: {r: 1, alpha: 2}, trainer: {rate: 0.1, steps: 5}}
"""


def test_an_entry_inherits_the_keys_that_it_leaves_out():
    found = with_defaults(PARAMS)
    assert list(found) == ["sft"]
    assert found["sft"]["rank4"] == {
        "parent": "base", "lora": {"r": 4, "alpha": 32}, "trainer": {"rate": 0.1, "steps": 5},
    }  # fmt: skip
    assert found["sft"]["full"] == {"parent": "sft/fast", "lora": None, "trainer": {"rate": 0.1, "steps": 5}}
    assert found["sft"]["own"] == PARAMS["sft"]["own"]
    assert inherited(PARAMS, "sft", "fast") == {
        "parent": "base", "lora": {"r": 16, "alpha": 32}, "trainer": {"steps": 5},
    }  # fmt: skip
    assert inherited(PARAMS, "sft", "own") == {}


def test_links_hold_what_an_entry_inherits_and_the_file_that_dvc_tracks():
    found = links(PARAMS)["sft"]
    assert found["fast"] == {"entry": "fast", **inherited(PARAMS, "sft", "fast"), "tracked": "links.yaml"}
    assert found["own"] == {"entry": "own", "tracked": "params.yaml"}


@pytest.mark.parametrize(
    ("defaults", "keys", "said"),
    [
        ({"sfft": {}}, ("defaults", "sfft"), "its entries take no defaults (did you mean 'sft'?)"),
        ({"report": {}}, ("defaults", "report"), "its entries take no defaults; expected one of sft"),
        ({"answer": {}}, ("defaults", "answer"), "its entries take no defaults; expected one of sft"),
        ({"sft": 3}, ("defaults", "sft"), "expected keys of an entry, got 3"),
        ([1], ("defaults",), "expected a section for each stage, got [1]"),
    ],
)
def test_defaults_that_no_entry_can_inherit_are_refused(defaults, keys, said):
    (fault,) = default_faults({"report": {}, "answer": {}, "sft": {}, "defaults": defaults})
    assert (tuple(fault.keys), fault.sentence) == (keys, said)


def dvc(*words):
    done = subprocess.run([sys.executable, "-m", "dvc", *words], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_files({"dvc.yaml": PIPELINE, "params.yaml": WRITTEN})
    write_links(read_yaml(Path("params.yaml")))
    for command in ("git init -q", "git config user.name a", "git config user.email a@b"):
        subprocess.run(command.split(), check=True)
    assert dvc("init", "-q")[0] == 0 and dvc("repro", "-q")[0] == 0
    subprocess.run(["git", "add", "-A"], check=True)
    subprocess.run(["git", "commit", "-qm", "first"], check=True)


def changed(text):
    Path("params.yaml").write_text(text)
    write_links(read_yaml(Path("params.yaml")))
    before = {path.stem: path.read_text() for path in Path("out").iterdir()}
    assert dvc("repro", "-q")[0] == 0
    return [path.stem for path in sorted(Path("out").iterdir()) if path.read_text() != before[path.stem]]


def test_a_changed_default_runs_the_entries_that_inherit_it_and_no_others(repository):
    assert changed(WRITTEN) == []
    assert changed(WRITTEN.replace("{rate: 0.1, steps: 5}}\nsft", "{rate: 0.2, steps: 5}}\nsft")) == ["rank4"]
    assert changed(WRITTEN) == ["rank4"]
    assert changed(WRITTEN.replace("steps: 5}}\nsft", "steps: 6}}\nsft")) == ["fast", "rank4"]
    assert changed(WRITTEN.replace("alpha: 32", "alpha: 64")) == ["fast", "rank4"]


def test_an_experiment_sets_a_key_of_one_entry_alone(repository):
    code, said = dvc("exp", "run", "-S", "sft.rank4.lora.r=8")
    assert code == 0, said
    assert "Running stage 'sft@rank4'" in said and "sft@fast'" not in said.replace("'sft@fast' didn't change", "")
    assert read_yaml(Path("params.yaml"))["sft"]["rank4"] == {"lora": {"r": 8}}
    assert links(read_yaml(Path("params.yaml"))) == read_yaml(Path("links.yaml"))
