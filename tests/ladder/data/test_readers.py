"""Data files: every fault is reported with its line, and the rows around it are read."""

import bz2
import gzip
import json
import lzma
import tracemalloc

import pyarrow
import pytest
from datasets import load_dataset
from pyarrow import parquet

from ladder.data import readers
from ladder.data.readers import MOST_BYTES, beginning, records
from ladder.pipeline.stage import UserError

GOOD = b'{"a": "x"}'


def read(tmp_path, content, name="rows.jsonl"):
    (tmp_path / name).write_bytes(content)
    return list(records(tmp_path / name, name))


def zstandard(content):
    stream = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(stream, "zstd") as packed:
        packed.write(content)
    return stream.getvalue().to_pybytes()


PACKERS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard}


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b'{"a": "\xe9"}', "not UTF-8: at byte 7"),
        (b'{"a": "x', "not JSON: Unterminated string starting at column 7"),
        (b'{"a": "x"', "not JSON: Expecting ',' delimiter at column 10"),
        (b'{"a": "x"} {"a": "y"}', "not JSON: extra text after the object at column 11"),
        (b'{"a": 1, "b": 2, "a": 3}', "duplicate key: 'a'"),
        (b'{"a": {"b": 1, "b": 1}}', "duplicate key: 'b'"),
        (b'{"a": NaN}', "not JSON: NaN is not a JSON value"),
        (b'{"a": "x\0"}', "NUL byte: at byte 8"),
        (b"\0\0\0\0", "NUL byte: at byte 0"),
        (b"[1, 2]", "not an object: list"),
        (
            b"[" * 100_000,
            "not JSON: JSON nested too deeply",
        ),
    ],
)
def test_a_broken_line_is_reported_and_its_neighbors_are_read(tmp_path, line, fault):
    found = read(tmp_path, b"\n".join([GOOD, line, GOOD]))
    assert [(record.line, record.row, record.fault) for record in found] == [
        (1, {"a": "x"}, ""),
        (2, None, fault),
        (3, {"a": "x"}, ""),
    ]


def test_a_byte_order_mark_carriage_returns_and_blank_lines_are_no_faults(tmp_path):
    found = read(tmp_path, b"\xef\xbb\xbf" + GOOD + b"\r\n\r\n  \n" + GOOD + b"\r\n")
    assert [(record.line, record.row) for record in found] == [(1, {"a": "x"}), (4, {"a": "x"})]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.jsonl.gz"])
def test_an_empty_file_has_no_rows(tmp_path, name):
    assert read(tmp_path, gzip.compress(b"") if name.endswith(".gz") else b"", name) == []


def test_a_line_of_100_megabytes_costs_a_fraction_of_its_length(tmp_path):
    with (tmp_path / "rows.jsonl").open("wb") as file:
        file.write(GOOD + b'\n{"a": "')
        for _ in range(100):
            file.write(b"x" * 1_000_000)
        file.write(b'"}\n' + GOOD)
    tracemalloc.start()
    found = list(records(tmp_path / "rows.jsonl", "rows.jsonl"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [record.fault for record in found] == ["", "too long: 100000010 bytes, more than 16777216", ""]
    assert peak < 3 * MOST_BYTES
    assert beginning(found[1]).startswith('{"a": "xxx') and len(beginning(found[1])) == 200


@pytest.mark.parametrize("suffix", PACKERS)
def test_packed_files(tmp_path, suffix):
    content = b"".join(json.dumps({"n": n}).encode() + b"\n" for n in range(1000))
    packed = PACKERS[suffix](content)
    assert [record.row["n"] for record in read(tmp_path, packed, f"rows.jsonl{suffix}")] == list(range(1000))
    with pytest.raises(
        UserError, match=rf"rows.jsonl{suffix}: cannot be read past row \d+: .*Check that the file is complete"
    ):
        read(tmp_path, packed[: len(packed) // 2], f"rows.jsonl{suffix}")


def test_two_gzip_members_are_one_file(tmp_path):
    assert len(read(tmp_path, gzip.compress(GOOD + b"\n") + gzip.compress(GOOD), "rows.jsonl.gz")) == 2


def test_utf_16_is_refused_with_the_cure(tmp_path):
    with pytest.raises(UserError, match="rows.csv: expected UTF-8, got UTF-16. Convert it"):
        read(tmp_path, "a,b\n1,2\n".encode("utf-16"), "rows.csv")


@pytest.mark.parametrize("name", ["rows.txt", "rows.parquet.gz", "rows", "rows.gz"])
def test_an_unknown_kind_names_the_known_ones(tmp_path, name):
    with pytest.raises(
        UserError, match=f"{name}: expected a file named .jsonl, .json, .csv, .parquet, or one compressed as"
    ):
        read(tmp_path, GOOD, name)


def test_an_array_gives_its_elements(tmp_path):
    rows = [{"n": n, "text": "é" * n} for n in range(2000)]
    for indent in (None, 2):
        found = read(tmp_path, json.dumps(rows, indent=indent, ensure_ascii=False).encode(), "rows.json")
        assert [record.row for record in found] == rows
        assert [record.line for record in found[:3]] == [1, 2, 3]
    assert read(tmp_path, b" [ ] ", "rows.json") == []


def test_a_json_file_may_hold_lines(tmp_path):
    assert [record.row for record in read(tmp_path, GOOD + b"\n" + GOOD, "rows.json")] == [{"a": "x"}] * 2


def test_an_element_that_is_no_row_is_reported_alone(tmp_path):
    found = read(tmp_path, b'[{"a": 1}, 7, {"a": 1, "a": 2}, {"a": "\xff"}, {"a": 2}]', "rows.json")
    assert [record.fault for record in found] == [
        "",
        "not an object: int",
        "duplicate key: 'a'",
        "not UTF-8: a text of this element",
        "",
    ]
    long = b'[{"a": "' + b"x" * (17 << 20) + b'"}, {"a": 1}]'
    assert [record.fault for record in read(tmp_path, long, "rows.json")] == [
        "too long: 17825801 characters, more than 16777216",
        "",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'[{"a": 1}, {"a": ]', "element 2: not JSON: Expecting value. The array ends there"),
        (b'[{"a": 1}, {"a": 2}', "element 2: expected a comma or ] after it, got the end"),
        (b'[{"a": 1} {"a": 2}]', "element 1: expected a comma or ] after it, got {"),
        (b'[{"a": 1},', "element 2: not JSON: Expecting value"),
        (b'[{"a": 1}] x', "expected the end after the array, got 'x'"),
        (b'[{"a": "' + b"x" * (40 << 20) + b'"}]', "element 1: not JSON, or far too long: Unterminated string"),
    ],
)
def test_an_array_with_broken_syntax_is_refused_at_its_element(tmp_path, content, said):
    with pytest.raises(UserError) as refusal:
        read(tmp_path, content, "rows.json")
    assert said in str(refusal.value)


def test_a_csv_reads_as_the_standard_library_reads_it(tmp_path):
    content = b'\xef\xbb\xbfid,text\r\n1,"a ""quoted"", word"\r\n\r\n2,"two\n\nparagraphs"\r\n3,\r\n'
    found = read(tmp_path, content, "rows.csv")
    assert [(record.line, record.row) for record in found] == [
        (2, {"id": "1", "text": 'a "quoted", word'}),
        (4, {"id": "2", "text": "two\n\nparagraphs"}),
        (7, {"id": "3", "text": ""}),
    ]


def test_a_broken_quote_costs_its_own_line_alone(tmp_path):
    content = b'id,text\n1,"never closed\n2,fine\n3,"closed"x\n4,"also ""fine"""\n5,too,many\n6,last "\n7,fine\n'
    assert [
        (record.line, record.fault, record.row and record.row["id"]) for record in read(tmp_path, content, "r.csv")
    ] == [
        (2, "broken quote: ',' expected after '\"'", None),
        (3, "", "2"),
        (4, "broken quote: ',' expected after '\"'", None),
        (5, "", "4"),
        (6, "wrong number of values: expected 2, got 3", None),
        (7, "", "6"),
        (8, "", "7"),
    ]


def test_a_quote_that_is_closed_nowhere_in_a_large_csv_costs_its_own_line_alone(tmp_path):
    content = b'id,text\n0,"never closed\n' + b"".join(b"%d,%s\n" % (n, b"x" * 1000) for n in range(1, 3001))
    found = read(tmp_path, content, "rows.csv")
    assert [record.fault for record in found if record.fault] == ["broken quote: unexpected end of data"]
    assert [record.row["id"] for record in found[1:]] == [str(n) for n in range(1, 3001)]


@pytest.mark.parametrize("header", [b"a,a\n", b"a,\n", b'"a\n'])
def test_a_csv_needs_a_header(tmp_path, header):
    with pytest.raises(UserError, match="rows.csv:1: expected a line of distinct column names"):
        read(tmp_path, header + b"1,2\n", "rows.csv")


def test_a_parquet_reads_as_datasets_reads_it(tmp_path):
    rows = [{"messages": [{"role": "user", "content": f"é {n}"}], "score": n / 7} for n in range(5000)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet", row_group_size=700)
    found = list(records(tmp_path / "rows.parquet", "rows.parquet"))
    assert [record.row for record in found] == rows
    theirs = load_dataset("parquet", data_files=str(tmp_path / "rows.parquet"), split="train", cache_dir=str(tmp_path))
    assert [record.row for record in found] == theirs.to_list()
    assert (found[-1].line, found[-1].fault) == (5000, "")


def test_a_text_in_a_parquet_that_is_not_utf_8_costs_its_row_alone(tmp_path):
    texts = pyarrow.array([b"one", b"\xff", b"three"]).view(pyarrow.utf8())
    parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "rows.parquet")
    found = list(records(tmp_path / "rows.parquet", "rows.parquet"))
    assert [(record.row, record.fault) for record in found] == [
        ({"text": "one"}, ""),
        (None, "not UTF-8: a text of this row"),
        ({"text": "three"}, ""),
    ]


@pytest.mark.parametrize(
    ("column", "reported"),
    [
        (pyarrow.array([0, 2**62], pyarrow.timestamp("ms")), "unreadable: Python int too large to convert to C int"),
        (pyarrow.array([None, 2**30], pyarrow.date32()), "unreadable: days=1073741824; must have magnitude"),
        (pyarrow.array([None, 0], pyarrow.timestamp("us", tz="Mars/Base")), "unreadable: 'Mars/Base'"),
    ],
)
def test_a_value_that_python_has_no_type_for_costs_no_row(tmp_path, column, reported):
    parquet.write_table(pyarrow.table({"text": ["one", "two"], "at": column}), tmp_path / "rows.parquet")
    first, second = (record.row for record in records(tmp_path / "rows.parquet", "rows.parquet"))
    assert (first["text"], second["text"], str(second["at"])[: len(reported)]) == ("one", "two", reported)
    assert first["at"] == column[0].as_py()


def test_two_columns_of_one_name_are_refused(tmp_path):
    columns = [pyarrow.array(["one"]), pyarrow.array(["two"])]
    parquet.write_table(pyarrow.Table.from_arrays(columns, names=["text", "text"]), tmp_path / "rows.parquet")
    with pytest.raises(UserError, match="rows.parquet: expected distinct column names, got two of 'text'"):
        list(records(tmp_path / "rows.parquet", "rows.parquet"))


def test_a_damaged_parquet_is_refused(tmp_path):
    parquet.write_table(pyarrow.table({"text": ["x"] * 100}), tmp_path / "rows.parquet")
    content = (tmp_path / "rows.parquet").read_bytes()
    with pytest.raises(UserError, match="cut.parquet: cannot be read past row 0: .*Check that the file is complete"):
        read(tmp_path, content[:-10], "cut.parquet")


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz", "zst"])
@pytest.mark.parametrize("byte", [b"\n", b"x"])
def test_a_file_that_unpacks_to_far_more_than_rows_would_is_refused(tmp_path, suffix, byte, monkeypatch):
    monkeypatch.setattr(readers, "SMALL", 1 << 20)
    path = tmp_path / f"rows.jsonl.{suffix}"
    content = byte * (4 << 20)
    pack = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lambda text: lzma.compress(text, preset=0)}
    packed = zstandard(content) if suffix == "zst" else pack[suffix](content)
    path.write_bytes(packed)
    assert len(packed) < 10_000
    with pytest.raises(UserError, match=rf"{path.name}: decompresses to more than [0-9]+ bytes, 300 times its size"):
        list(records(path, path.name))


def test_memory_is_bounded_by_the_rows_of_a_parquet_that_are_read_together(tmp_path):
    """A text of 2 MB in each of 640 rows takes 1.3 GB; Arrow holds 64 rows at a time."""
    path = tmp_path / "rows.parquet"
    texts = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 640, pyarrow.int32()), ["x" * (2 << 20)])
    parquet.write_table(pyarrow.table({"prompt": texts}), path, store_schema=False)
    assert path.stat().st_size < 1 << 20
    before = pyarrow.default_memory_pool().max_memory()
    assert sum(len(record.row["prompt"]) for record in records(path, path.name)) == 640 * (2 << 20)
    assert pyarrow.default_memory_pool().max_memory() - before < 500 << 20


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_half_a_surrogate_pair_spoils_its_row_alone(tmp_path, name):
    texts = [
        '{"a": "x\\ud800"}',
        '{"a\\udfff": 1}',
        '{"a": "\\ud83d\\ude00"}',
        '{"a": "\\\\ud800"}',
        '{"a": [["\\udead"]]}',
    ]
    content = "[" + ",\n".join(texts) + "]" if name == "rows.json" else "\n".join(texts)
    found = read(tmp_path, content.encode(), name)
    fault = "not Unicode: an unpaired surrogate in a text"
    assert [record.fault for record in found] == [fault, fault, "", "", fault]
    assert [record.row for record in found if record.row] == [{"a": "😀"}, {"a": "\\ud800"}]
