import subprocess
from pathlib import Path

import pytest

from conftest import write_files
from ladder.pipeline.stage import UserError
from stages.code import Params, main

FOLDERS = ("ladder", "stages", "benchmarks")
SOURCES = {
    "ladder/data/jsonl.py": "",
    "ladder/pipeline/names.py": "import importlib\nimportlib.import_module(f'benchmarks.{name}')\n",
    "stages/sft.py": "from ladder.data.jsonl import read\n",
    "stages/ask.py": "import ladder.pipeline.names\n",
    "stages/__init__.py": "",
    "benchmarks/quiz.py": "import ladder.data.jsonl\n",
    "params.yaml": "merge: {soup: {parents: [sft/a, sft/b]}}\n",
    "links.yaml": "merge_inputs: {soup/0: {model: sft/a}, soup/1: {model: sft/b}}\n",
}


@pytest.fixture
def lists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_files(SOURCES)
    return write


def write():
    main(Params(), *map(Path, (*FOLDERS, "params.yaml", "links.yaml")), Path("code"))
    return {str(path.relative_to("code")): path.read_text() for path in sorted(Path("code").rglob("*.txt"))}


def test_a_list_has_what_a_stage_imports(lists):
    told = {name: [line.split("  ")[1] for line in text.splitlines()] for name, text in lists().items()}
    assert told == {
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


def test_a_stage_that_is_gone_has_no_list(lists):
    lists()
    Path("stages/ask.py").unlink()
    assert set(lists()) == {"benchmarks/quiz.txt", "sft.txt"}


def test_links_that_do_not_belong_to_params_are_refused(lists):
    Path("params.yaml").write_text("merge: {soup: {parents: [sft/a, sft/c]}}\n")
    with pytest.raises(UserError, match=r"^links\.yaml: not the links of params\.yaml; .*`python -m ladder check`"):
        lists()


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
