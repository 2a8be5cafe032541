import subprocess
from pathlib import Path

import pytest

from conftest import write_files
from stages.code import Params, main

FOLDERS = ("ladder", "stages", "benchmarks")
SOURCES = {
    "ladder/rows.py": "",
    "ladder/names.py": "import importlib\nimportlib.import_module(f'benchmarks.{name}')\n",
    "stages/sft.py": "from ladder.rows import read\n",
    "stages/ask.py": "import ladder.names\n",
    "stages/__init__.py": "",
    "benchmarks/quiz.py": "import ladder.rows\n",
}


@pytest.fixture
def lists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_files(SOURCES)
    return write


def write():
    main(Params(), *map(Path, FOLDERS), Path("code"))
    return {str(path.relative_to("code")): path.read_text() for path in sorted(Path("code").rglob("*.txt"))}


def test_a_list_has_what_a_stage_imports_as_sha256sum_writes_it(lists):
    files = {
        "ask.txt": ["ladder/names.py", "stages/ask.py"],
        "benchmarks/quiz.txt": ["benchmarks/quiz.py", "ladder/rows.py"],
        "sft.txt": ["ladder/rows.py", "stages/sft.py"],
    }
    sums = {name: subprocess.check_output(["sha256sum", *paths], text=True) for name, paths in files.items()}
    assert lists() == sums


def test_an_edit_changes_the_lists_of_those_that_import_the_file(lists):
    before = lists()
    Path("ladder/rows.py").write_text("# read again\n")
    after = lists()
    assert {name for name in before if before[name] != after[name]} == {"benchmarks/quiz.txt", "sft.txt"}


def test_a_stage_that_is_gone_has_no_list(lists):
    lists()
    Path("stages/ask.py").unlink()
    assert set(lists()) == {"benchmarks/quiz.txt", "sft.txt"}
