"""Replicas of entries: which entries have some, what they contain, and what DVC runs for them."""

from pathlib import Path

import pytest
from dvc.repo import Repo

from conftest import write_files
from ladder.pipeline.check import picture
from ladder.pipeline.links import links, with_links, write_links
from ladder.pipeline.names import name_fault
from ladder.pipeline.seeds import Entry, Replicas, numbered, original, seed_faults, seeds_of, with_replicas
from ladder.pipeline.stage import read_yaml

PARAMS = {
    "problems": {"words": {"seed": 3}, "practice": {"seed": 0}, "test": {"seed": 0}, "unused": {"seed": 0}},
    "prune_layers": {"small": {"parent": "base"}},
    "sft": {
        "words": {"parent": "base", "data": "problems/words", "trainer": {"seed": 42, "data_seed": 7}},
        "student": {"parent": "prune_layers/small", "data": "problems/words", "trainer": {}},
    },
    "preferences": {
        "words": {"prompts": "problems/practice", "model": "sft/words", "seed": 1},
        "test": {"prompts": "problems/test", "model": "sft/words", "seed": 1},
    },
    "reference_logprobs": {
        "words": {"model": "sft/words", "data": "preferences/words"},
        "test": {"model": "sft/words", "data": "preferences/test"},
    },
    "dpo": {"words": {"parent": "sft/words", "data": "reference_logprobs/words", "trainer": {"seed": 42}}},
    "heldout": {"problems/test": {"seed": 11}},
    "accuracy": {"data": "reference_logprobs/test"},
    "merge": {
        "both": {
            "parents": ["sft/words", "base"],
            "seed": 0,
            "config": {"base_model": "base", "models": [{"model": "sft/words", "parameters": {"weight": 1}}]},
        }
    },
    "report": {"rungs": ["base", "dpo/words"]},
    "claims": {"heldout": ["base", "sft/words"], "accuracy": ["dpo/words"], "divergence": [], "claims": []},
}


def over(report=1, claims=1, **sections):
    """PARAMS with numbers of seeds, and other sections."""
    tables = {"report": {**PARAMS["report"], "seeds": report}, "claims": {**PARAMS["claims"], "seeds": claims}}
    return {**PARAMS, **tables, **sections}


def test_without_seeds_there_is_no_replica():
    assert Replicas(PARAMS).counts == {}
    assert with_replicas(PARAMS) == PARAMS
    assert links(PARAMS)["rungs"]["report"] == ["base", "dpo/words"]
    assert links(over()) == links(PARAMS)


def test_a_rung_of_the_table_and_all_that_it_is_made_of_have_replicas():
    found = Replicas(over(report=3)).counts
    assert found == {
        Entry("problems", "words"): 3,
        Entry("problems", "practice"): 3,
        Entry("sft", "words"): 3,
        Entry("preferences", "words"): 3,
        Entry("reference_logprobs", "words"): 3,
        Entry("dpo", "words"): 3,
    }


def test_a_replica_has_other_seeds_and_the_replicas_of_its_parent_and_data():
    found = with_replicas(over(report=3))
    assert found["problems"]["words+2"] == {"seed": 2003}
    assert found["sft"]["words+1"] == {
        "parent": "base", "data": "problems/words+1", "trainer": {"seed": 1042, "data_seed": 1007},
    }  # fmt: skip
    assert found["preferences"]["words+1"] == {
        "prompts": "problems/practice+1", "model": "sft/words+1", "seed": 1001,
    }  # fmt: skip
    assert found["dpo"]["words+2"]["data"] == "reference_logprobs/words+2"
    assert {name: entry for name, entry in found["sft"].items() if "+" not in name} == PARAMS["sft"]


def test_the_rows_of_an_evaluation_are_the_same_for_all_seeds():
    found = with_replicas(over(claims=2))
    assert "test+1" not in found["problems"] and "test+1" not in found["preferences"]
    # The reference of a replica is its own parent; the pairs stay.
    assert found["reference_logprobs"]["test+1"] == {"model": "sft/words+1", "data": "preferences/test"}
    assert links(over(claims=2))["rungs"] == {
        "report": ["base", "dpo/words"],
        "heldout": ["base", "sft/words", "sft/words+1"],
        "accuracy": {
            "dpo/words": {"data": "reference_logprobs/test"},
            "dpo/words+1": {"data": "reference_logprobs/test+1"},
        },
        "divergence": {},
        "claims": ["base", "sft/words", "sft/words+1", "dpo/words", "dpo/words+1"],
    }


def test_tables_with_different_numbers_share_replicas():
    found = Replicas(over(report=2, claims=3))
    assert found.counts[Entry("dpo", "words")] == 3
    assert found.rungs("report") == ["base", "dpo/words", "dpo/words+1"]
    assert found.rungs("claims")[-3:] == ["dpo/words", "dpo/words+1", "dpo/words+2"]


def test_a_merge_names_the_replicas_of_its_parents():
    found = with_links(over(report=2) | {"report": {"rungs": ["merge/both"], "seeds": 2}})
    assert found["merge"]["both+1"]["config"] == {
        "base_model": "base", "models": [{"model": "sft/words+1", "parameters": {"weight": 1}}],
    }  # fmt: skip
    assert found["merge_inputs"] == {
        "both/0": {"model": "sft/words"}, "both/1": {"model": "base"},
        "both+1/0": {"model": "sft/words+1"}, "both+1/1": {"model": "base"},
    }  # fmt: skip


def test_a_trainer_without_a_seed_has_transformers_default():
    found = with_replicas(over(report=2) | {"report": {"rungs": ["sft/student"], "seeds": 2}})
    assert found["sft"]["student+1"] == {
        "parent": "prune_layers/small", "data": "problems/words+1", "trainer": {"seed": 1042},
    }  # fmt: skip
    assert list(found["prune_layers"]) == ["small"]  # without a seed, and made of the base


def test_a_mixture_has_the_parts_of_its_replica():
    sections = {
        "mixture": {"all": {"parts": {"own": {"count": 1}}, "seed": 0}},
        "part": {"all/own": {"data": "pairs/words.validation"}},
        "pairs": {"words": {"data": "preferences/words"}},
        "sft": {**PARAMS["sft"], "mixed": {"parent": "base", "data": "mixture/all"}},
        "report": {"rungs": ["sft/mixed"], "seeds": 2},
    }
    found = with_replicas(over() | sections)
    assert found["sft"]["mixed+1"]["data"] == "mixture/all+1"
    assert found["part"]["all+1/own"] == {"data": "pairs/words+1.validation"}
    assert found["pairs"]["words+1"] == {"data": "preferences/words+1", "seed": 1000}
    assert links(over() | sections)["part"]["all+1/own"] == {
        "entry": "all/own", "data": "pairs/words+1.validation", "tracked": "params.yaml",
    }  # fmt: skip


@pytest.mark.parametrize(("section", "name"), [("sft", "words"), ("part", "all/own")])
def test_the_name_of_a_replica_leads_to_its_entry(section, name):
    assert original(numbered(Entry(section, name), 12)) == name == numbered(Entry(section, name), 0)


@pytest.mark.parametrize("value", [0, -1, 1, True, "3", 2.0, None, [3]])
def test_an_invalid_number_makes_no_replicas(value):
    assert seeds_of(over(report=value), "report") == 1


def test_the_name_of_a_replica_cannot_be_written_by_hand():
    assert name_fault("words-1") is None
    for name in ("words+1", "words+2"):
        assert f"entry name '{name}': names of this form belong to replicas" in str(name_fault(name))
    assert "belong to replicas" in str(name_fault("all+1/own", path=True))


def test_seeds_that_vary_nothing_are_a_fault():
    params = over(report=3) | {"report": {"rungs": ["base", "prune_layers/small"], "seeds": 3}}
    assert [(fault.keys, fault.sentence) for fault in seed_faults(params)] == [
        (
            ("report", "seeds"),
            "no rung of this table depends on a seed, so all replicas would be equal. Remove the key.",
        )
    ]
    assert list(seed_faults(over(report=3, claims=2))) == []


def test_an_entry_that_is_its_own_ancestor_ends():
    sections = {"sft": {"a": {"parent": "sft/b"}, "b": {"parent": "sft/a"}}, "report": {"rungs": ["sft/a"], "seeds": 2}}
    assert Replicas(sections).counts == {}


PIPELINE = """
vars: [links.yaml]
stages:
  problems:
    foreach: ${problems}
    do:
      desc: it
      cmd: mkdir -p data/problems && echo ${key} > data/problems/${key}.jsonl
      params: ["problems.${item.entry}"]
      outs: ["data/problems/${key}.jsonl"]
  sft:
    foreach: ${sft}
    do:
      desc: it
      cmd: mkdir -p models/sft && echo ${key} > models/sft/${key} && cat data/${item.data}.jsonl
      deps: ["data/${item.data}.jsonl"]
      params: ["sft.${item.entry}"]
      outs: ["models/sft/${key}"]
  answer:
    matrix:
      rung: ${rungs.report}
    desc: it
    cmd: mkdir -p data/answer/sft && cat models/${item.rung} > data/answer/${item.rung}
    deps: ["models/${item.rung}"]
    outs: ["data/answer/${item.rung}"]
  report:
    desc: it
    cmd: ls -R data/answer > report.txt
    deps: [data/answer]
    params: [links.yaml: [rungs.report]]
    outs: [report.txt]
"""
TEXT = """
problems: {words: {seed: 0}, other: {seed: 0}}
sft: {words: {data: problems/words, lora: {r: 4}, trainer: {}}, other: {data: problems/other, trainer: {}}}
report: {rungs: [sft/words, sft/other]}
"""


def test_dvc_runs_the_replicas_that_are_new_or_whose_entry_changed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_files({"dvc.yaml": PIPELINE, "params.yaml": TEXT})
    Repo.init(no_scm=True).close()

    def ran(text):
        Path("params.yaml").write_text(text)
        write_links(read_yaml(Path("params.yaml")))
        with Repo() as repo:
            return {stage.addressing for stage in repo.reproduce()}

    assert ran(TEXT) == {
        "problems@words",
        "problems@other",
        "sft@words",
        "sft@other",
        "answer@sft/words",
        "answer@sft/other",
        "report",
    }
    two = TEXT.replace("other]}", "other], seeds: 2}")
    assert ran(two) == {
        "problems@words+1", "problems@other+1", "sft@words+1", "sft@other+1",
        "answer@sft/words+1", "answer@sft/other+1", "report",
    }  # fmt: skip
    assert ran(two.replace("r: 4", "r: 8")) == {"sft@words", "sft@words+1"}
    assert Path("data/answer/sft/words+1").read_text() == "words+1\n"
    drawn = picture()
    assert '    sft["sft (2 replicas)"]' in drawn and "    sft --> answer" in drawn and "+1" not in drawn
    # The answers of the second seed are still there, but the report no longer names them.
    assert ran(TEXT.replace("r: 4", "r: 8")) == {"report"}
    assert "sft/words+1" not in read_yaml(Path("dvc.lock"))["stages"]["report"]["params"]["links.yaml"]["rungs.report"]


def test_a_replica_inherits_the_defaults_of_its_entry():
    params = {
        "defaults": {"sft": {"parent": "base", "trainer": {"seed": 5}}},
        "sft": {"words": {"data": "problems/words"}},
        "problems": {"words": {"seed": 0}},
        "report": {"rungs": ["sft/words"], "seeds": 2},
    }
    inherited = {"parent": "base", "trainer": {"seed": 5}, "tracked": "links.yaml"}
    assert links(params)["sft"] == {
        "words": {"entry": "words", **inherited},
        "words+1": {"entry": "words", "parent": "base", "data": "problems/words+1", "tracked": "links.yaml"},
    }
    assert with_links(params)["sft"]["words+1"]["trainer"] == {"seed": 1005}
