from pathlib import Path

import pytest
from dvc.repo import Repo

from conftest import write_files
from ladder.pipeline.links import check_links, links, with_links, write_links
from ladder.pipeline.stage import UserError, read_yaml

PARAMS = {
    "grpo": {"words": {"parent": "sft/a"}, "maths": {"parent": "sft/a", "reward_model": "reward/b"}},
    "preferences": {"chat": {"model": "sft/a"}},
    "filter": {},
    "merge": {"soup": {"parents": ["sft/a", "sft/b"]}},
}
OWN = {"tracked": "params.yaml"}
LINKS = {
    "grpo": {"words": {"entry": "words", "reward_model": "base", **OWN}, "maths": {"entry": "maths", **OWN}},
    "preferences": {"chat": {"entry": "chat", "ranker": "base", **OWN}},
    "merge": {"soup": {"entry": "soup", **OWN}},
    "merge_inputs": {"soup/0": {"model": "sft/a"}, "soup/1": {"model": "sft/b"}},
    "judged": {},
}
PIPELINE = """
vars: [links.yaml]
stages:
  grpo:
    foreach: ${grpo}
    do:
      cmd: echo ${key} models/${item.reward_model}
"""


def test_a_rung_that_an_entry_leaves_out_is_the_base_and_a_named_one_stays():
    assert links(PARAMS) == LINKS
    assert with_links(PARAMS)["grpo"] == {
        "words": {"entry": "words", "parent": "sft/a", "reward_model": "base", **OWN},
        "maths": {"entry": "maths", "parent": "sft/a", "reward_model": "reward/b", **OWN},
    }
    assert links({"merge": {}}) == {"merge_inputs": {}, "judged": {}}
    assert links({"claims": {"heldout": ["base"]}})["rungs"] == {
        "heldout": ["base"], "accuracy": {}, "divergence": {}, "claims": ["base"],
    }  # fmt: skip
    assert links({"judge_reliability": {"data": "preferences/a"}})["judged"] == {"preferences/a": {}}


def test_the_file_holds_these_values_and_belongs_to_no_other_params(tmp_path):
    write_links(PARAMS, tmp_path / "links.yaml")
    assert read_yaml(tmp_path / "links.yaml") == LINKS
    check_links(PARAMS, tmp_path / "links.yaml")
    with pytest.raises(UserError, match=r"links\.yaml: not the links of params\.yaml; expected .*ladder check"):
        check_links({**PARAMS, "grpo": {}}, tmp_path / "links.yaml")


def test_dvc_reads_a_default_for_a_key_that_an_entry_leaves_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_files({"dvc.yaml": PIPELINE, "params.yaml": "grpo: {words: {}, maths: {reward_model: reward/b}}\n"})
    Repo.init(no_scm=True).close()
    write_links(read_yaml(Path("params.yaml")))
    with Repo() as repo:
        assert {stage.addressing: stage.cmd for stage in repo.index.stages} == {
            "grpo@words": "echo words models/base",
            "grpo@maths": "echo maths models/reward/b",
        }
