"""`ladder score` and `ladder bench`, as a user runs them."""

import bz2
import gzip
import json
import lzma
import os
import subprocess
import sys

import pandas
import pyarrow
import pytest

from conftest import ROOT
from endpoints import Said, serving
from ladder.__main__ import main
from ladder.data.jsonl import read_rows, write_rows

TASK = [
    {"key": n, "prompt": f"Say {n}.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]} for n in range(4)
]


@pytest.fixture
def repository(tmp_path, monkeypatch, base):
    """A repository in which IFEval has four prompts; no instruction counts sentences."""
    (tmp_path / "data/punkt/tokenizers/punkt_tab/english").mkdir(parents=True)
    (tmp_path / "stages").symlink_to(ROOT / "stages")
    (tmp_path / "models").mkdir()
    (tmp_path / "models/base").symlink_to(base)
    (tmp_path / "params.yaml").write_text(
        "answer: {ifeval: {rows: 2, max_new_tokens: 4}}\nbenchmark: {ifeval: {resamples: 1000}}\n"
    )
    write_rows(tmp_path / "data/task/ifeval.jsonl", TASK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def printed(capsys):
    out, err = capsys.readouterr()
    return json.loads(out), err


def test_score_prints_the_metric_and_reports_what_is_missing(repository, capsys):
    write_rows(repository / "mine.jsonl", [{"prompt": "Say 1.", "response": "1"}, {"key": 2, "response": "2, or so"}])
    main(["score", "ifeval", "mine.jsonl"])
    metric, reported = printed(capsys)
    assert (metric["prompt_strict"], metric["mean_strict"]) == (50.0, 50.0)
    assert (metric["made_by"]["rows"], metric["made_by"]["of"]) == (2, 4)
    assert "finished" not in metric["made_by"]
    assert "mine.jsonl: 2 of 4 questions have no answer: 0, 3" in reported


def test_score_takes_another_file_of_the_benchmarks_rows(repository, capsys):
    write_rows(repository / "other.jsonl", TASK[:1])
    write_rows(repository / "mine.jsonl", [{"key": 0, "prompt": "Say 0!", "response": "a"}])
    main(["score", "ifeval", "mine.jsonl", "--task", "other.jsonl"])
    metric, reported = printed(capsys)
    assert metric["made_by"]["of"] == 1 and metric["made_by"]["reworded"] == 1
    assert "prompts worded differently from the benchmark's, matched by key: rows 1" in reported


def refusal(*arguments):
    with pytest.raises(SystemExit) as stopped:
        main(["score", "ifeval", *arguments])
    return str(stopped.value)


def test_a_file_whose_keys_are_shifted_against_its_prompts_is_refused(repository):
    shifted = [{"key": (n + 1) % 4, "prompt": f"Say {n}.", "response": "a"} for n in range(4)]
    write_rows(repository / "mine.jsonl", shifted)
    assert refusal("mine.jsonl") == (
        "ladder: mine.jsonl: row 1: its key and its prompt contradict each other: the prompt belongs to key '0', "
        "not to key '1'. 4 of 4 rows do. Correct the keys, or drop the column `key` to match rows by prompt."
    )


def test_all_shifted_responses_of_the_paper_are_refused(ifeval_files, repository):
    task = read_rows(ifeval_files[0])
    prompts = [row["prompt"] for row in task]
    rows = [{"key": row["key"], "prompt": prompts[number - 1], "response": "a"} for number, row in enumerate(task)]
    write_rows(repository / "mine.jsonl", rows)
    assert "541 of 541 rows do" in refusal("mine.jsonl", "--task", str(ifeval_files[0]))


def test_a_null_response_is_wrong_when_asked(repository, capsys):
    write_rows(repository / "mine.jsonl", [{"key": 1, "response": "1"}, {"key": 2, "response": None}])
    assert refusal("mine.jsonl").startswith("ladder: mine.jsonl:2: response: expected a text, got null. Remove the row")
    main(["score", "ifeval", "mine.jsonl", "--null-is-wrong"])
    assert printed(capsys)[0]["prompt_strict"] == 50.0


def test_reasoning_that_never_ended_is_counted(repository, capsys):
    rows = [
        {"key": 0, "response": "<think>\na, b\n</think>\n\nNo mark."},
        {"key": 1, "response": "<think>\nno mark"},
        {"key": 2, "response": None, "reasoning_content": "no mark"},
    ]
    write_rows(repository / "mine.jsonl", rows)
    main(["score", "ifeval", "mine.jsonl"])
    metric, reported = printed(capsys)
    assert (metric["prompt_strict"], metric["made_by"]["unfinished_reasoning"]) == (33.33, 2)
    assert "mine.jsonl: 2 answers are unfinished reasoning" in reported


def test_foreign_rows_are_skipped_when_asked(repository, capsys):
    write_rows(repository / "mine.jsonl", [{"key": 1, "response": "1"}, {"key": 77, "response": "2"}])
    assert "key 77: no such question in the benchmark. --skip-foreign" in refusal("mine.jsonl")
    main(["score", "ifeval", "mine.jsonl", "--skip-foreign"])
    metric, reported = printed(capsys)
    assert (metric["made_by"]["rows"], metric["made_by"]["foreign"]) == (1, 1)
    assert "mine.jsonl: 1 of 2 rows answer no question and are skipped: rows 2" in reported
    write_rows(repository / "mine.jsonl", [{"key": 77, "response": "2"}])
    assert refusal("mine.jsonl", "--skip-foreign").startswith("ladder: mine.jsonl: none of its 1 rows answers")


def test_a_missing_column_is_named_with_what_is_there(repository):
    write_rows(repository / "mine.jsonl", [{"key": 1, "output": "1"}])
    assert refusal("mine.jsonl") == (
        "ladder: mine.jsonl:1: no column 'response'; expected the answer under that name, got columns key, output. "
        "Rename the column that holds the answer."
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "mine.jsonl: no rows"),
        (b'{"key": 1, "key": 2, "response": "a"}\n', "mine.jsonl:1: duplicate key: 'key'"),
        (
            b'{"key": 1, "response": "a", "score": 1e999}\n',
            "mine.jsonl:1: not JSON: 1e999 is out of range for a number",
        ),
        (b'{"key": 1, "response": "a", "score": NaN}\n', "mine.jsonl:1: not JSON: NaN is not a JSON value"),
    ],
)
def test_what_is_no_row_is_refused(repository, content, sentence):
    (repository / "mine.jsonl").write_bytes(content)
    assert refusal("mine.jsonl") == f"ladder: {sentence}"


def test_the_benchmarks_numbers_may_be_floats(repository, capsys):
    kwargs = [{"relation": "at least", "num_words": 3.0, "num_bullets": None}]
    row = {"key": 5.0, "prompt": "Say three.", "instruction_id_list": ["length_constraints:number_words"]}
    write_rows(repository / "other.jsonl", [{**row, "kwargs": kwargs}])
    write_rows(repository / "mine.jsonl", [{"key": 5, "response": "one two three"}])
    main(["score", "ifeval", "mine.jsonl", "--task", "other.jsonl"])
    assert printed(capsys)[0]["prompt_strict"] == 100.0
    write_rows(repository / "other.jsonl", [{**row, "kwargs": [{"num_words": 3.5}]}])
    assert "ifeval: key 5.0: kwargs: num_words: expected a whole number, got 3.5" in refusal(
        "mine.jsonl", "--task", "other.jsonl"
    )


def test_a_reader_that_closes_the_pipe_ends_without_a_traceback(repository):
    write_rows(repository / "mine.jsonl", [{"key": 1, "response": "1"}])
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "ladder", "score", "ifeval", "mine.jsonl"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})
    os.close(writing)
    assert (done.returncode, b"Traceback" in done.stderr, b"BrokenPipe" in done.stderr) == (0, False, False)


ANSWERS = [
    {"key": 1, "prompt": None, "sample": 0, "response": "1", "tokens": 1, "finished": True},
    {"key": 3, "prompt": None, "sample": 0, "response": "3, or so", "tokens": 5, "finished": False},
    {"key": None, "prompt": "Say 2.", "sample": 0, "response": "", "tokens": 0, "finished": True},
]


def written(folder, ending):
    """The answers in a file of this type and compression, written by the library that owns the format."""
    path = folder / f"mine{ending}"
    lines = "".join(json.dumps(row) + "\n" for row in ANSWERS).encode()
    match ending:
        case ".csv" | ".csv.gz":
            pandas.DataFrame(ANSWERS).astype({"key": "Int64"}).to_csv(path, index=False)
        case ".parquet":
            pandas.DataFrame(ANSWERS).astype({"key": "Int64"}).to_parquet(path)
        case ".json" | ".json.xz":
            pandas.DataFrame(ANSWERS).astype({"key": "Int64"}).to_json(path, orient="records")
        case ".jsonl.zst":
            with pyarrow.output_stream(str(path), compression="zstd") as stream:
                stream.write(lines)
        case _:
            packers = {
                ".jsonl": bytes,
                ".jsonl.gz": gzip.compress,
                ".jsonl.bz2": bz2.compress,
                ".jsonl.xz": lzma.compress,
            }
            path.write_bytes(packers[ending](lines))
    return path.name


@pytest.mark.parametrize(
    "ending",
    [
        ".jsonl",
        ".jsonl.gz",
        ".jsonl.bz2",
        ".jsonl.xz",
        ".jsonl.zst",
        ".json",
        ".json.xz",
        ".csv",
        ".csv.gz",
        ".parquet",
    ],
)
def test_score_reads_every_kind_and_packing(repository, capsys, ending):
    main(["score", "ifeval", written(repository, ending)])
    metric, reported = printed(capsys)
    made_by = metric["made_by"]
    assert (made_by["rows"], made_by["tokens"], made_by["finished"]) == (3, 2.0, 66.67)
    # "1" has no comma; "3, or so" has one; an empty answer follows no instruction.
    assert metric["prompt_strict"] == 33.33
    assert f"mine{ending}: 1 of 4 questions have no answer: 0" in reported


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("mine.jsonl.gz", b'{"key": 1, "response": "a"}\n\n{"key"\n', "mine.jsonl.gz:3: not JSON: "),
        ("mine.jsonl.gz", b"", "mine.jsonl.gz: no rows"),
        ("mine.csv.gz", b"key,response\n1,a\n2\n", "mine.csv.gz:3: wrong number of values: expected 2, got 1"),
        (
            "mine.csv.gz",
            b"key,response,sample\n1,a,first\n",
            "mine.csv.gz:2: expected 'sample' of type int, got 'first'",
        ),
        (
            "mine.jsonl.gz",
            b'{"key": 1, "response": "a", "tokens": "9"}\n',
            "mine.jsonl.gz:1: expected 'tokens' of type int",
        ),
        ("mine.txt", b"", "mine.txt: expected a file named .jsonl, .json, .csv, .parquet, or one compressed as .gz"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(repository, name, content, sentence):
    (repository / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(SystemExit) as stopped:
        main(["score", "ifeval", name])
    assert str(stopped.value).startswith(f"ladder: {sentence}")


def test_a_packing_that_is_cut_off_is_reported(repository):
    (repository / "mine.jsonl.gz").write_bytes(gzip.compress(b'{"key": 1, "response": "a"}\n')[:-9])
    with pytest.raises(
        SystemExit, match="mine.jsonl.gz: cannot be read past row 0: .*. Check that the file is complete"
    ):
        main(["score", "ifeval", "mine.jsonl.gz"])


def test_the_benchmarks_rows_may_be_packed(repository, capsys):
    (repository / "other.jsonl.gz").write_bytes(gzip.compress(json.dumps(TASK[0]).encode()))
    write_rows(repository / "mine.jsonl", [{"key": 0, "response": "a"}])
    main(["score", "ifeval", "mine.jsonl", "--task", "other.jsonl.gz"])
    metric, _ = printed(capsys)
    assert metric["made_by"]["of"] == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["score", "ifevall", "mine.jsonl"], "ladder: no benchmark is named 'ifevall'"),
        (
            ["score", "ifbench", "mine.jsonl"],
            "data/task/ifbench.jsonl: no such file. `dvc repro task@ifbench` makes it",
        ),
        (["score", "ifeval", "none.jsonl"], "none.jsonl: no such file"),
        (["score", "ifeval", "mine.jsonl"], "mine.jsonl: row 2: key '1' is already answered in row 1"),
        (["bench", "ifeval", "--model", "http://127.0.0.1:9/v1"], "--name: missing; expected the model's name"),
        (["bench", "ifeval", "--model", "models/nowhere"], "models/nowhere: not a rung"),
    ],
)
def test_a_mistake_is_one_sentence(repository, arguments, sentence):
    write_rows(repository / "mine.jsonl", [{"key": "1", "response": "a"}, {"key": 1, "response": "b"}])
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert sentence in str(stopped.value)


def test_bench_asks_a_rung_keeps_its_answers_and_scores_them(repository, capsys):
    main(["bench", "ifeval", "--model", "models/base"])
    metric, reported = printed(capsys)
    assert metric["model"] == "base"
    assert (metric["made_by"]["rows"], metric["made_by"]["of"]) == (2, 4)
    assert metric["made_by"]["tokens"] <= 4
    kept = read_rows(repository / "data/bench/ifeval/base.jsonl")
    assert len(kept) == 2 and "data/bench/ifeval/base.jsonl" in reported
    main(["score", "ifeval", "data/bench/ifeval/base.jsonl"])
    again, _ = printed(capsys)
    assert {"model": "base", **again} == metric


def test_bench_asks_an_endpoint(repository, capsys):
    with serving(lambda asked, again: Said("Yes")) as server:
        main(["bench", "ifeval", "--model", server.base_url, "--name", "org/some model"])
    metric, _ = printed(capsys)
    assert (metric["model"], metric["mean_strict"]) == ("org/some model", 100.0)
    assert {asked["model"] for asked in server.asked} == {"org/some model"}
    assert {asked["max_tokens"] for asked in server.asked} == {4}
    assert (repository / "data/bench/ifeval/org-some-model.jsonl").is_file()
