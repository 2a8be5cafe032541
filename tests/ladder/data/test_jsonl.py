import json
from pathlib import Path

import pytest

from ladder.data.jsonl import column, of_split, read_json, read_rows, write_json, write_rows
from ladder.pipeline.stage import UserError


def test_rows_survive_a_round_trip(tmp_path):
    rows = [{"id": "00123", "text": "é\u2028\n", "n": 1}, {"id": "2", "text": "", "n": None}]
    write_rows(tmp_path / "rows.jsonl", rows)
    assert read_rows(tmp_path / "rows.jsonl") == rows


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"a": 1', "rows.jsonl:2: not JSON"),
        (b"\xff", "rows.jsonl:2: not UTF-8 at byte 0 of the line"),
        (b'{"a": 1, "a": 2}', "rows.jsonl:2: not JSON: duplicate key 'a'"),
        (b'{"a": NaN}', "rows.jsonl:2: not JSON: NaN is not a JSON value"),
        (b'{"a": -1e999}', "rows.jsonl:2: not JSON: -1e999 is out of range for a number"),
        (b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}", "rows.jsonl:2: not JSON: JSON nested too deeply"),
        (b"[1]", "rows.jsonl:2: expected a JSON object, got list"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, said):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b"\n")
    with pytest.raises(UserError) as refusal:
        read_rows(path)
    assert said in str(refusal.value)


def test_missing_and_empty_files_are_named(tmp_path):
    with pytest.raises(UserError, match="no.jsonl: no such file"):
        read_rows(tmp_path / "no.jsonl")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(UserError, match="empty.jsonl: no rows"):
        read_rows(tmp_path / "empty.jsonl")


def test_nan_is_never_written_and_the_old_file_stays(tmp_path):
    write_json(tmp_path / "m.json", {"loss": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "m.json", {"loss": float("nan")})
    assert (tmp_path / "m.json").read_text() == '{\n  "loss": 1\n}\n'


def test_a_column_of_the_wrong_type_is_named(tmp_path):
    with pytest.raises(UserError, match="row 2: expected 'prompt' of type str, got 3"):
        column([{"prompt": "a"}, {"prompt": 3}], "prompt", str, tmp_path)


def test_a_split_is_chosen_by_name():
    rows, data = [{"split": "train"}, {"split": "heldout"}], Path("rows.jsonl")
    assert of_split(rows, "heldout", data) == rows[1:] and of_split(rows, None, data) == rows
    with pytest.raises(UserError, match="rows.jsonl: no row of split 'test'; expected one of heldout, train"):
        of_split(rows, "test", data)
    with pytest.raises(UserError, match="rows.jsonl: no row of split 'test'; the rows have no split. Set split: null"):
        of_split([{"prompt": "a"}, {"split": None}], "test", data)


@pytest.mark.parametrize(
    "row", [{"prompt": "\ud800"}, {"\udfff": 1}, {"a": [{"b": ["x\udc00\ud800"]}]}, {"id": "a\ud83d"}]
)
def test_half_a_surrogate_pair_is_refused_wherever_it_is(tmp_path, row):
    (tmp_path / "rows.jsonl").write_text("{}\n" + json.dumps(row) + "\n")
    with pytest.raises(UserError, match=r"rows.jsonl:2: unpaired surrogate '.*\\ud[8-f]..', which UTF-8 cannot encode"):
        read_rows(tmp_path / "rows.jsonl")
    (tmp_path / "one.json").write_text(json.dumps(row))
    with pytest.raises(UserError, match="one.json: not JSON: unpaired surrogate"):
        read_json(tmp_path / "one.json")


def test_pairs_and_backslashes_are_no_halves(tmp_path):
    rows = [{"a": "😀"}, {"a": "\\ud800"}, {"a": "\\\\ud800\\"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_rows(tmp_path / "rows.jsonl") == rows


def test_what_is_no_file_is_named(tmp_path):
    for read in (read_rows, read_json):
        with pytest.raises(UserError, match="cannot be read: Is a directory; expected a file"):
            read(tmp_path)
