import subprocess
from pathlib import Path

import pytest

from conftest import write_files
from ladder.pipeline.links import write_links
from ladder.pipeline.stage import UserError, read_yaml
from stages.code import Params, main

INPUTS = [Path(name) for name in ("ladder", "stages", "benchmarks", "data/raw", "params.yaml", "links.yaml")]
SOURCES = {
    "ladder/data/jsonl.py": "",
    "ladder/pipeline/names.py": "import importlib\nimportlib.import_module(f'benchmarks.{name}')\n",
    "stages/sft.py": "from ladder.data.jsonl import read\n",
    "stages/ask.py": "import ladder.pipeline.names\n",
    "stages/__init__.py": "",
    "benchmarks/quiz.py": "import ladder.data.jsonl\n",
    "data/raw/README.md": "",
    "params.yaml": "sft: {}\n",
}


@pytest.fixture
def lists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_files(SOURCES)
    return write


def write():
    write_links(read_yaml(Path("params.yaml")))
    main(Params(), *INPUTS, Path("code"))
    return {str(path.relative_to("code")): path.read_text() for path in sorted(Path("code").rglob("*.txt"))}


def test_a_list_has_what_a_stage_imports(lists):
    reported = {name: [line.split("  ")[1] for line in text.splitlines()] for name, text in lists().items()}
    assert reported == {
        "ask.txt": ["ladder/pipeline/names.py", "stages/ask.py"],
        "benchmarks/quiz.txt": ["benchmarks/quiz.py", "ladder/data/jsonl.py"],
        "sft.txt": ["ladder/data/jsonl.py", "stages/sft.py"],
    }


def test_the_hash_is_sha256_where_nothing_is_explained(lists):
    assert lists()["sft.txt"] == subprocess.check_output(
        ["sha256sum", "ladder/data/jsonl.py", "stages/sft.py"], text=True
    )


def test_an_edit_changes_the_lists_of_those_that_import_the_file_and_a_comment_none(lists):
    before = lists()
    Path("ladder/data/jsonl.py").write_text('"""Rows."""\n# read again\n')
    assert lists() == before
    Path("ladder/data/jsonl.py").write_text('"""Rows."""\nread = open\n')
    after = lists()
    assert {name for name in before if before[name] != after[name]} == {"benchmarks/quiz.txt", "sft.txt"}


NAMED = """
sft:
  join: {x: {source: data/raw/rows.jsonl}}
  append: [{source: data/raw/folder}, {source: "hub:org/name@0"}]
  config: {dataset_kwargs: {data_files: {test: "data/raw/*.csv"}}}
  title: data/raw/README.md
ask: {include_path: data/raw/none}
"""


def test_the_local_files_that_a_section_names_end_its_list(lists):
    write_files(
        {"data/raw/rows.jsonl": "1", "data/raw/folder/b": "2", "data/raw/folder/a/c": "3", "data/raw/t.csv": "4"}
    )
    before = lists()
    Path("params.yaml").write_text(NAMED)
    after = lists()
    assert {name for name in before if before[name] != after[name]} == {"sft.txt"}
    files = ["data/raw/folder/a/c", "data/raw/folder/b", "data/raw/rows.jsonl", "data/raw/t.csv"]
    added = subprocess.check_output(["sha256sum", *files], text=True)
    assert after["sft.txt"] == before["sft.txt"] + added
    Path("data/raw/rows.jsonl").write_text("changed")
    assert {name for name, text in lists().items() if text != after[name]} == {"sft.txt"}
    Path("data/raw/other").write_text("not named")
    Path("data/raw/rows.jsonl").write_text("1")
    assert lists() == after


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("rows.jsonl", "params.yaml:2: sft.source: expected a path in data/raw, where DVC sees it change"),
        ("/data/raw/rows.jsonl", "expected a path in data/raw"),
        ("data/raw/../rows.jsonl", "expected a path in data/raw"),
        (
            "data/raw/link/rows.jsonl",
            "data/raw/link: a link to a folder, into which DVC does not look; expected a folder",
        ),
    ],
)
def test_a_local_file_that_dvc_would_not_see_change_is_refused(lists, path, said):
    Path("data/raw/link").symlink_to(Path("ladder").resolve())
    Path("params.yaml").write_text(f"sft:\n  source: {path}\n")
    with pytest.raises(UserError, match=said):
        lists()


def test_a_stage_that_is_gone_has_no_list(lists):
    lists()
    Path("stages/ask.py").unlink()
    assert set(lists()) == {"benchmarks/quiz.txt", "sft.txt"}


def test_links_that_do_not_belong_to_params_are_refused(lists):
    write_files({"stages/merge.py": "", "params.yaml": "merge: {soup: {parents: [sft/a, sft/b]}}\n"})
    assert "merge.txt" in lists()
    Path("params.yaml").write_text("merge: {soup: {parents: [sft/a, sft/c]}}\n")
    with pytest.raises(UserError, match=r"^links\.yaml: not the links of params\.yaml; .*`ladder check`"):
        main(Params(), *INPUTS, Path("code"))


def test_an_entry_of_filter_has_the_code_of_the_model_filters_that_it_names(lists):
    write_files(
        {
            "ladder/filters/model_scores.py": "import ladder.data.jsonl\n",
            "ladder/filters/judged.py": "import ladder.pipeline.names\n",
            "stages/filter.py": "from ladder.data.jsonl import read\n",
            "params.yaml": "filter: {rules: {steps: [exact: null]}, scored: {steps: [exact: null, perplexity: {}]}}\n",
            "links.yaml": "filter: {rules: {model: base}, scored: {model: base}}\nmerge_inputs: {}\n",
        }
    )
    found = lists()
    assert found["filter/rules.txt"] == ""
    listed = [line.split("  ")[1] for line in found["filter/scored.txt"].splitlines()]
    assert listed == ["ladder/data/jsonl.py", "ladder/filters/model_scores.py"]
