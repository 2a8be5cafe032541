"""Names that reach a shell: the rule, and where it is enforced."""

import sys
from pathlib import Path

import pytest

from conftest import ROOT
from ladder.pipeline import stage
from ladder.pipeline.check import check
from ladder.pipeline.names import name_fault, name_faults, reference_fault
from ladder.pipeline.stage import UserError, read_params

PAYLOADS = [
    "x; touch PWN", "$(touch PWN)", "`touch PWN`", "x\ntouch PWN", "x' ; touch PWN; '", 'x"; touch PWN; "',
    "x && touch PWN", "x | touch PWN", "x > PWN", "x & touch PWN", "x\\", "(touch PWN)", "x\ttouch", "${HOME}", "~",
]  # fmt: skip
OTHERS = [
    "--help",
    "-x",
    "/tmp/x",
    "../../x",
    "x/..",
    "a//b",
    "a/",
    "",
    " ",
    "v1.5",
    "my rung",
    "a@b",
    "é",
    "a" * 65,
    "7",
]


@pytest.mark.parametrize("name", [*PAYLOADS, *OTHERS, 7, 1.5, None, True])
def test_what_is_no_name(name):
    assert name_fault(name, path=True) and name_fault(name)
    assert next(name_faults({"sft": {name: {}}})).keys == ("sft", name)


@pytest.mark.parametrize("name", ["chat", "rank4", "maths-heldout", "A_b", "_x", "4bit", "a" * 64])
def test_what_is_a_name(name):
    assert name_fault(name) is None


def test_paths_name_parts_and_heldout_prompts_alone():
    assert name_fault("all/faq", path=True) is None
    assert name_fault("all/faq") and name_fault("all/-x", path=True)
    assert not list(name_faults({"part": {"all/faq": {"data": "filter/faq"}}, "heldout": {"problems/x-heldout": {}}}))
    assert [fault.keys for fault in name_faults({"filter": {"all/faq": {}}})] == [("filter", "all/faq")]


@pytest.mark.parametrize("value", [*PAYLOADS, "--help", "/tmp/x", "../../x", "", 7, None, ["a"], {"x; touch PWN": 1}])
def test_what_is_no_reference(value):
    assert reference_fault(value)
    params = {
        "dpo": {"chat": {"parent": value}},
        "report": {"rungs": ["base", value]},
        "merge": {"m": {"parents": [value]}},
    }
    found = [fault.keys for fault in name_faults(params)]
    assert ("dpo", "chat", "parent") in found and ("report", "rungs", 1) in found
    assert any(keys[:3] == ("merge", "m", "parents") for keys in found)


def test_files_of_stages_may_have_dots():
    assert reference_fault("pairs/web.validation") is None
    assert not list(name_faults({"speculate": {"maths": {"prompts": 8}}}))


def test_check_names_the_key_and_its_line(tmp_path, monkeypatch):
    for name in ("stages", "ladder", "benchmarks", "dvc.yaml", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "params.yaml").write_text(
        "task: {}\nsft:\n  chat: {parent: base}\n  v1.5: {parent: base}\n  a@b:\n    parent: $(touch PWN)\n"
    )
    monkeypatch.chdir(tmp_path)
    rule = "expected letters a-z, digits, - and _, not beginning with -, at most 64 characters"
    assert check() == [
        "params.yaml:6: sft.a@b.parent: expected a name such as sft/chat: letters a-z, digits, -, _ and . in parts "
        "joined by /; got '$(touch PWN)'",
        f"params.yaml:4: sft.v1.5: entry name 'v1.5': {rule}. Use 'v1-5'",
        f"params.yaml:5: sft.a@b: entry name 'a@b': {rule}. Use 'a-b'",
    ]
    with pytest.raises(UserError, match=r"params.yaml:6: sft.a@b.parent: .*; 2 more: run `ladder check`"):
        read_params()


def test_a_stage_runs_nothing_where_any_name_is_wrong(tmp_path, monkeypatch, capsys):
    def main(params: stage.Config, output: Path) -> None:
        raise AssertionError("it ran")

    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/test_names.py").touch()
    (tmp_path / "stages/sft.py").touch()
    (tmp_path / "params.yaml").write_text("test_names: {chat: {}}\nsft:\n  'x; touch PWN': {parent: base}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["test_names", "chat", "out"])
    with pytest.raises(SystemExit, match="test_names: params.yaml:3: sft.x; touch PWN: entry name"):
        stage.run(main, named=True)
