import json
from pathlib import Path

import pytest

from ladder.data.cells import Cells, folder_hash, modules_hash, text_hash
from ladder.pipeline.errors import UserError


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(inputs, output="out", index="cells.json"):
    """A stage that copies each input to its cell; returns why each cell was made."""
    cells, made = Cells(Path(index), [Path(output)]), {}
    for name, text in inputs.items():
        path = Path(output, f"{name}.txt")
        if why := cells.outdated(name, {"text": text_hash(text.encode()), "seed": "0"}, [path]):
            made[name] = why
            cells.forget(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            cells.record(name, {"text": text_hash(text.encode()), "seed": "0"}, [path])
    cells.finish()
    return made


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def test_only_cells_whose_inputs_changed_are_made_and_the_bytes_are_those_of_a_run_from_nothing():
    assert run({"a/x": "1", "a/y": "2", "b/x": "3"}) == {"a/x": "new", "a/y": "new", "b/x": "new"}
    assert run({"a/x": "1", "a/y": "2", "b/x": "3"}) == {}
    assert run({"a/x": "1", "a/y": "changed", "c": "4"}) == {"a/y": "text changed", "c": "new"}
    kept, index = contents("out"), Path("cells.json").read_bytes()
    assert kept == {"a/x.txt": b"1", "a/y.txt": b"changed", "c.txt": b"4"}  # b/x is gone
    assert not Path("out/b").exists()
    for path in (*Path("out").rglob("*.txt"), Path("cells.json")):
        path.unlink()
    run({"c": "4", "a/y": "changed", "a/x": "1"})
    assert (contents("out"), Path("cells.json").read_bytes()) == (kept, index)


def test_a_cell_whose_files_are_not_those_recorded_is_made_again():
    run({"a": "1", "b": "2"})
    Path("out/a.txt").write_text("edited")
    Path("out/b.txt").unlink()
    assert set(run({"a": "1", "b": "2"})) == {"a", "b"}
    assert contents("out") == {"a.txt": b"1", "b.txt": b"2"}


def test_a_killed_run_keeps_its_finished_cells_and_trusts_no_other():
    run({"a": "1", "b": "2"})
    cells = Cells(Path("cells.json"), [Path("out")])
    path = Path("out/a.txt")
    cells.forget("a")
    path.write_text("new")  # killed here: the file is new, and has no record
    assert run({"a": "1", "b": "2"}) == {"a": "new"}
    assert path.read_text() == "1"
    # Killed before `finish`: the first cell is recorded.
    cells = Cells(Path("cells.json"), [Path("out")])
    path.write_text("3")
    cells.record("a", {"text": text_hash(b"3"), "seed": "0"}, [path])
    assert run({"a": "3", "b": "2"}) == {}


def test_foreign_files_are_removed_and_the_folder_exists_without_cells():
    run({"a": "1"})
    Path("out/stray/deep").mkdir(parents=True)
    Path("out/stray/deep/x").touch()
    assert run({}) == {}
    assert contents("out") == {} and Path("out").is_dir()
    assert json.loads(Path("cells.json").read_text()) == {}


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"a": {"made_of": {}}}'])
def test_an_index_that_is_none_is_refused(text):
    Path("cells.json").write_text(text)
    with pytest.raises(UserError, match="cells.json: not a record of cells: .* Remove the file"):
        Cells(Path("cells.json"), [Path("out")])


def test_a_code_lists_local_files_are_not_its_modules():
    Path("one.txt").write_text("00  ladder/a.py\n11  data/raw/rows.jsonl\n")
    Path("two.txt").write_text("00  ladder/a.py\n22  data/raw/rows.jsonl\n")
    Path("three.txt").write_text("33  ladder/a.py\n11  data/raw/rows.jsonl\n")
    assert modules_hash(Path("one.txt")) == modules_hash(Path("two.txt")) == text_hash(b"00  ladder/a.py")
    assert modules_hash(Path("one.txt")) != modules_hash(Path("three.txt"))


def test_the_hash_of_a_folder_depends_on_names_and_contents():
    for name, text in (("a/x", "1"), ("b/x", "1"), ("c/y", "1"), ("d/x", "2")):
        Path(name).parent.mkdir()
        Path(name).write_text(text)
    hashes = [folder_hash(Path(name)) for name in "abcd"]
    assert hashes[0] == hashes[1] and len(set(hashes)) == 3
