import os
import sys
from pathlib import Path

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from conftest import write_files
from ladder.data.jsonl import read_json
from ladder.models.rung import Rung, describe_file, read_rung
from ladder.pipeline.links import write_links
from ladder.pipeline.stage import read_yaml

ROOT = Path(__file__).parents[2]


def rung(name, weights):
    """A rung of one file, as another stage would make it."""
    directory = Path("models", name)
    write_files({f"{directory}/model.safetensors": weights})
    made = Rung(
        **{"rung": name, "method": "sft", "kind": "complete", "head": "language_model", "parents": {}, "base": None},
        **{"tokenizer": "", "chat_template": "", "parameters": 1, "trainable_parameters": 1, "settings": {}},
        files={"model.safetensors": describe_file(directory / "model.safetensors")},
    )
    (directory / "rung.json").write_text(made.model_dump_json())


def parents(**merges):
    params = {"merge_input": {}, "merge": {name: {"parents": several} for name, several in merges.items()}}
    YAML().dump(params, Path("params.yaml"))
    write_links(params)


def reproduced():
    with Repo() as repo:
        return sorted(stage.addressing for stage in repo.reproduce() if stage.addressing != "models.dvc")


@pytest.fixture
def graph(tmp_path, monkeypatch):
    """The two stanzas of dvc.yaml in a repository of their own; a merge copies its links instead of merging."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    Repo.init(no_scm=True).close()
    (tmp_path / "stages").symlink_to(ROOT / "stages")
    pipeline = read_yaml(ROOT / "dvc.yaml")
    stages = {name: pipeline["stages"][name] for name in ("merge_input", "merge")}
    stages["merge"]["do"].update(cmd="cat data/merge_input/${key}/*.json > models/merge-${key}")
    stages["merge"]["do"].update(outs=["models/merge-${key}"], metrics=[])
    YAML().dump({"vars": pipeline["vars"], "stages": stages}, Path("dvc.yaml"))
    write_files({"code/merge.txt": "", "code/merge_input.txt": ""})
    for name in ("base", "sft/a", "sft/b", "sft/c", "sft/d"):
        rung(name, name)
    return reproduced


def test_a_link_names_the_parent_and_its_identity(graph):
    parents(soup=["sft/a"])
    graph()
    directory = Path("models/sft/a")
    assert read_json(Path("data/merge_input/soup/0.json")) == {
        "rung": "sft/a", "identity": read_rung(directory).identity, "directory": "models/sft/a"
    }  # fmt: skip


def test_a_merge_of_three_depends_on_each_parent_and_on_no_other_rung(graph):
    parents(soup=["sft/a", "sft/b", "sft/c"], other=["sft/d"])
    assert graph() == ["merge@other", "merge@soup", "merge_input@other/0", *(f"merge_input@soup/{n}" for n in range(3))]
    rung("sft/d", "trained again")  # a parent of `other` alone
    assert graph() == ["merge@other", "merge_input@other/0"]
    rung("sft/b", "trained again")
    assert graph() == ["merge@soup", "merge_input@soup/1"]
