import gzip
import json
import os
from pathlib import Path

import pyarrow
import pytest
from datasets import load_dataset
from pyarrow import parquet
from pydantic import ValidationError

from conftest import assistant, user
from ladder.chat.encode import conversation
from ladder.data.jsonl import read_rows
from ladder.pipeline.stage import UserError, fit
from perf.source import write_lines
from stages import pairs
from stages.source import Params, main

SHARED = os.environ.get("LADDER_SHARED_DATA")


def outputs(tmp_path):
    return tmp_path / "source/try.jsonl", tmp_path / "source/try.quarantine.jsonl", tmp_path / "metrics/try.json"


def run(tmp_path, content, name="rows.jsonl", **params):
    raw = tmp_path / "raw"
    raw.mkdir(exist_ok=True)
    if content is not None:
        (raw / name).write_bytes(content)
    main(fit(Params, {"source": name, "license": "MIT", **params}, "source.try"), raw, *outputs(tmp_path))
    written, quarantine, metrics = outputs(tmp_path)
    reported = [json.loads(line) for line in quarantine.read_text().splitlines()]
    return read_rows(written), reported, json.loads(metrics.read_text())


MIXED = b"""{"prompt": "2+2?", "completion": "4"}
{"prompt": "2+2?"
{"instruction": "Add.", "input": "2, 2", "output": "4"}
{"prompt": "2+2?", "chosen": "4", "rejected": "5"}
"""


def test_rows_are_mapped_and_invalid_rows_reported_with_file_line_and_reason(tmp_path):
    rows, quarantine, metrics = run(tmp_path, MIXED, max_broken=0.5)
    assert rows == [
        {
            "id": "try-1",
            "source": {"name": "try", "row": "rows.jsonl:1"},
            "messages": user("2+2?") + assistant("4"),
        },
        {
            "id": "try-3",
            "source": {"name": "try", "row": "rows.jsonl:3"},
            "messages": user("Add.\n\n2, 2") + assistant("4"),
        },
    ]
    assert quarantine == [
        {
            "file": "rows.jsonl",
            "line": 2,
            "reason": "not JSON: Expecting ',' delimiter at column 18",
            "begins": '{"prompt": "2+2?"',
        },
        {
            "file": "rows.jsonl",
            "line": 4,
            "reason": "pair: expected a row of messages, got a pair of answers (preference)",
            "begins": '{"prompt": "2+2?", "chosen": "4", "rejected": "5"}',
        },
    ]
    assert metrics == {
        "rows": 2,
        "read": 4,
        "quarantined": 2,
        "formats": {"alpaca": 1, "completion": 1},
        "reasons": {"not JSON": 1, "pair": 1},
        "made_by": {"source": "rows.jsonl", "revision": None, "license": "MIT"},
    }
    assert conversation(rows[0], "row") == rows[0]["messages"]


def test_more_invalid_rows_than_stated_are_refused_and_the_quarantine_reports_them(tmp_path):
    with pytest.raises(UserError) as refusal:
        run(tmp_path, MIXED, max_broken=0.49)
    output, quarantine, metrics = outputs(tmp_path)
    assert str(refusal.value) == (
        f"rows.jsonl: 2 of 4 rows cannot be read, more than max_broken: 0.49 (not JSON: 1, pair: 1); "
        f"first rows.jsonl:2: not JSON: Expecting ',' delimiter at column 18. See {quarantine}."
    )
    assert len(quarantine.read_text().splitlines()) == 2
    assert not output.exists() and not metrics.exists()
    assert sorted(path.name for path in output.parent.iterdir()) == ["try.quarantine.jsonl"]


def test_a_file_without_rows_is_refused(tmp_path):
    with pytest.raises(UserError, match="^rows.jsonl: no rows$"):
        run(tmp_path, b"\n")


ROW = json.dumps({"prompt": "2+2?", "completion": "4"})


@pytest.mark.parametrize(
    ("name", "content", "reported"),
    [
        (
            "rows.json",
            json.dumps({"data": [json.loads(ROW)]}, indent=2),
            "8 of 8 rows cannot be read, none is left (not JSON: 8)",
        ),
        (
            "rows.jsonl",
            f'{{"data": [\n{ROW},\n{ROW}\n]}}',
            "3 of 4 rows cannot be read, more than max_broken: 0.01 (not JSON: 3)",
        ),
        ("rows.jsonl", f"[\n{ROW},\n{ROW}\n]", "3 of 4 rows cannot be read, more than max_broken: 0.01 (not JSON: 3)"),
        ("rows.jsonl", '"a"\n"b"', "2 of 2 rows cannot be read, none is left (not an object: 2)"),
    ],
)
def test_an_object_or_array_over_several_lines_is_no_row(tmp_path, name, content, reported):
    with pytest.raises(UserError) as refusal:
        run(tmp_path, content.encode(), name)
    hint = "expected one JSON object a line, or a file named .json that is an array of them"
    assert str(refusal.value) == f"{name}: {reported}; {hint}. See {outputs(tmp_path)[1]}."


def test_an_answer_that_calls_a_tool_is_read_and_left_out_of_the_pairs(tmp_path):
    called = [*assistant("clock()"), {"role": "tool", "content": "noon"}, *assistant("Noon.")]
    lines = [
        {"prompt": "Time?", "chosen": called, "rejected": "No."},
        {"prompt": "2+2?", "chosen": "4", "rejected": "5"},
    ]
    rows, _, _ = run(tmp_path, "\n".join(map(json.dumps, lines)).encode(), rows="preference")
    assert rows[0]["chosen"] == called
    outputs = [tmp_path / name for name in ("pairs.jsonl", "validation.jsonl", "pairs.json")]
    pairs.main(pairs.Params(data="source/try"), tmp_path / "source/try.jsonl", *outputs)
    assert read_rows(outputs[0]) == rows[1:]
    assert json.loads(outputs[2].read_text())["dropped_several_turns"] == 1


def test_scores_of_pairs_are_kept_where_both_are_numbers(tmp_path):
    pair = {"prompt": "2+2?", "chosen": "4", "rejected": "5"}
    scores = [(9, 2.5), (1, None), ("high", 1.0), (True, 1.0)]
    lines = [{**pair, "score_chosen": chosen, "score_rejected": rejected} for chosen, rejected in scores]
    content = "\n".join(map(json.dumps, lines)).encode()
    rows, quarantine, metrics = run(tmp_path, content, rows="preference", max_broken=0.5)
    assert [(row.get("score_chosen"), row.get("score_rejected")) for row in rows] == [(9, 2.5), (None, None)]
    assert "score_chosen" not in rows[1]
    assert [reported["reason"] for reported in quarantine] == [
        "not a score: score_chosen: expected a number, got 'high'",
        "not a score: score_chosen: expected a number, got True",
    ]
    theirs = {"score_chosen": "best", "score_rejected": "worst"}
    content = json.dumps({**pair, "best": 3, "worst": 1}).encode()
    (row,), _, _ = run(tmp_path, content, rows="preference", columns=theirs)
    assert (row["score_chosen"], row["score_rejected"]) == (3, 1)


def test_a_time_that_python_has_no_type_for_is_no_matter_in_a_column_that_is_not_read(tmp_path):
    times = pyarrow.array([2**62, 0], pyarrow.timestamp("ms"))
    (tmp_path / "raw").mkdir()
    table = pyarrow.table({"prompt": ["a", "b"], "completion": ["x", "y"], "at": times})
    parquet.write_table(table, tmp_path / "raw/rows.parquet")
    rows, quarantine, _ = run(tmp_path, None, "rows.parquet")
    assert ([row["messages"][0]["content"] for row in rows], quarantine) == (["a", "b"], [])
    with pytest.raises(UserError, match="none is left \\(no JSON value: 2\\); first rows.parquet:1: no JSON value"):
        run(tmp_path, None, "rows.parquet", columns={"at": "at"})


def test_twenty_thousand_rows_of_mixed_formats_with_one_in_a_hundred_broken(tmp_path):
    (tmp_path / "raw").mkdir()
    reasons = write_lines(tmp_path / "raw/rows.jsonl.gz", 20_000)
    rows, quarantine, metrics = run(tmp_path, None, "rows.jsonl.gz")
    assert (metrics["read"], metrics["rows"], metrics["quarantined"]) == (20_000, 19_800, 200)
    assert metrics["reasons"] == reasons and len(reasons) == 12
    assert metrics["formats"] == {"messages": 5000, "sharegpt": 5000, "completion": 5000, "alpaca": 4800}
    assert [reported["line"] for reported in quarantine] == list(range(51, 20_000, 100))
    kept = [int(row["source"]["row"].partition(":")[2]) for row in rows]
    assert sorted(kept + [reported["line"] for reported in quarantine]) == list(range(1, 20_001))
    assert all(row["messages"][0]["content"].startswith(f"{line - 1}: ") for line, row in zip(kept, rows, strict=True))


def test_the_same_file_gives_the_same_bytes(tmp_path):
    found = []
    for _ in range(2):
        run(tmp_path, MIXED, max_broken=0.5)
        found.append([path.read_bytes() for path in outputs(tmp_path)])
    assert found[0] == found[1]


def test_columns_are_renamed_and_others_kept_on_demand(tmp_path):
    lines = [{"question": "2+2?", "answer": "4", "level": 1}, {"question": "2+2?"}]
    content = "\n".join(map(json.dumps, lines)).encode()
    columns = {"prompt": "question", "completion": "answer", "grade": "level"}
    rows, quarantine, _ = run(tmp_path, content, columns=columns, rows="completion", max_broken=0.5)
    assert rows == [
        {
            "id": "try-1",
            "source": {"name": "try", "row": "rows.jsonl:1"},
            "grade": 1,
            "prompt": user("2+2?"),
            "completion": assistant("4"),
        }
    ]
    assert [reported["reason"] for reported in quarantine] == ["no column: 'answer'; the row has question"]
    with pytest.raises(
        UserError, match="first rows.jsonl:1: no column: 'qestion'; the row has answer, level, question."
    ):
        run(tmp_path, content, columns={"prompt": "qestion"})
    with pytest.raises(UserError, match="columns: id: expected another name, because this stage writes that column"):
        run(tmp_path, content, columns={"id": "level"})


def test_a_text_that_speaks_of_an_escape_is_no_fault(tmp_path):
    lines = [{"prompt": r"What is \u0000?", "completion": "NUL"}, {"prompt": "\\\0", "completion": "x"}]
    rows, quarantine, _ = run(tmp_path, "\n".join(map(json.dumps, lines)).encode(), max_broken=0.5)
    assert [row["messages"][0]["content"] for row in rows] == [r"What is \u0000?"]
    assert [reported["reason"] for reported in quarantine] == ["NUL character: in a text"]


def test_ultrachat_and_ultrafeedback_as_they_lie_on_the_hub(tmp_path):
    chat = [{"prompt": f"{n}?", "prompt_id": "x", "messages": user(f"{n}?") + assistant("Yes.")} for n in range(7)]
    pairs = [
        {
            "prompt": f"{n}?",
            "prompt_id": "x",
            "chosen": user(f"{n}?") + assistant("Yes."),
            "rejected": user(f"{n}?") + assistant("No."),
            "messages": user(f"{n}?") + assistant("Yes."),
            "score_chosen": 8.0 + n,
            "score_rejected": 2.5,
        }
        for n in range(3)
    ]
    for name, parts in {"chat": {"train_sft": chat, "test_sft": chat[:2]}, "feedback": {"train_prefs": pairs}}.items():
        for split, rows in parts.items():
            for number, half in enumerate((rows[:1], rows[1:])):
                path = tmp_path / f"raw/{name}/data/{split}-0000{number}-of-00002-0123456789abcdef.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                parquet.write_table(
                    pyarrow.Table.from_pylist(half, schema=pyarrow.Table.from_pylist(rows).schema), path
                )
    rows, _, metrics = run(tmp_path, None, "chat", split="train_sft")
    theirs = load_dataset(str(tmp_path / "raw/chat"), split="train_sft", cache_dir=str(tmp_path / "cache"))
    assert [row["messages"] for row in rows] == theirs["messages"][:]
    assert rows[-1]["source"]["row"] == "chat/data/train_sft-00001-of-00002-0123456789abcdef.parquet:6"
    assert metrics["formats"] == {"messages": 7}
    rows, _, metrics = run(tmp_path, None, "feedback", rows="preference", split="train_prefs")
    assert [(row["prompt"], row["chosen"], row["rejected"], row["score_chosen"]) for row in rows] == [
        (user(f"{n}?"), assistant("Yes."), assistant("No."), 8.0 + n) for n in range(3)
    ]
    assert [row["score_rejected"] for row in rows] == [2.5] * 3
    assert metrics["formats"] == {"preference": 3}


def test_the_first_rows_alone(tmp_path):
    content = b"".join(b'{"prompt": "%d", "completion": "x"}\n' % n for n in range(9)) + b"broken"
    rows, _, metrics = run(tmp_path, gzip.compress(content), "rows.jsonl.gz", first=2)
    assert [row["messages"][0]["content"] for row in rows] == ["0", "1"]
    assert (metrics["read"], metrics["quarantined"]) == (2, 0)


def test_messages_of_a_tree_that_are_rows_become_one_row_at_the_roots_place(tmp_path):
    lines = [
        {"message_id": "b", "parent_id": "a", "role": "assistant", "text": "4", "lang": "en", "rank": None},
        {"message_id": "a", "parent_id": None, "role": "prompter", "text": "2+2?", "lang": "en", "rank": None},
        {"message_id": "d", "parent_id": "c", "role": "assistant", "text": "5", "lang": "en", "rank": None},
    ]
    content = "\n".join(map(json.dumps, lines)).encode()
    rows, quarantine, metrics = run(tmp_path, content, columns={"language": "lang"}, max_broken=0.5)
    assert rows == [
        {
            "id": "try-1",
            "source": {"name": "try", "row": "rows.jsonl:2"},
            "language": "en",
            "messages": user("2+2?") + assistant("4"),
        }
    ]
    assert [(reported["line"], reported["reason"]) for reported in quarantine] == [
        (3, "no path to a root: 'd' answers 'c'")
    ]
    assert (metrics["read"], metrics["formats"]) == (2, {"tree": 1})


@pytest.mark.skipif(not SHARED, reason="LADDER_SHARED_DATA names no folder of the shared data")
def test_open_assistants_trees_become_754_ranked_pairs_with_their_tree(tmp_path):
    content = (Path(SHARED) / "train/oasst_en_100_tree.jsonl.gz").read_bytes()
    rows, _, metrics = run(tmp_path, content, "trees.jsonl.gz", rows="preference", license="Apache-2.0")
    assert (metrics["read"], metrics["rows"], metrics["formats"]) == (100, 754, {"tree": 100})
    assert len({row["id"] for row in rows}) == 754
    assert len({row["source"]["row"] for row in rows}) == 100
    rows, _, metrics = run(tmp_path, content, "trees.jsonl.gz", rows="completion", license="Apache-2.0")
    assert len({row["prompt"][0]["content"] for row in rows}) == metrics["rows"] == 100


def test_columns_that_are_not_read_are_counted_and_the_line_that_ignores_them_is_reported(tmp_path):
    row = {"prompt": "2+2?", "completion": "4"}
    lines = [{**row, "hint": "add"}, {**row, "hint": "add", "images": ["x.png"]}, {**row, "seen": 3}, row]
    content = "\n".join(map(json.dumps, lines)).encode()
    with pytest.raises(UserError) as refusal:
        run(tmp_path, content)
    assert str(refusal.value) == (
        "rows.jsonl: 3 of 4 rows cannot be read, more than max_broken: 0.01 (column not read: 3); first rows.jsonl:1: "
        "column not read: 'hint'. Name them in `columns` or `ignore`; columns not read (hint: 1, images: 1, seen: 1). "
        f"If they do not change the training, add `ignore: [hint, seen]`. See {outputs(tmp_path)[1]}."
    )
    rows, quarantine, metrics = run(tmp_path, content, ignore=["hint", "seen"], max_broken=0.5)
    assert [reported["line"] for reported in quarantine] == [2]
    assert (len(rows), metrics["reasons"], metrics["columns_not_read"]) == (3, {"column not read": 1}, {"images": 1})
    with pytest.raises(UserError, match="hint: expected a column in columns or in ignore, got it in both"):
        run(tmp_path, content, columns={"hint": "hint"}, ignore=["hint"])


def test_unpaired_preferences_are_rows_of_their_own(tmp_path):
    lines = [
        {"prompt": "Capital of Peru?", "completion": "BAD-ANSWER I will not tell.", "label": False},
        {"prompt": user("Capital of Peru?"), "completion": assistant("Lima."), "label": True},
    ]
    content = "\n".join(map(json.dumps, lines)).encode()
    rows, _, _ = run(tmp_path, content, rows="unpaired")
    assert [(row["prompt"], row["completion"], row["label"]) for row in rows] == [
        (user("Capital of Peru?"), assistant("BAD-ANSWER I will not tell."), False),
        (user("Capital of Peru?"), assistant("Lima."), True),
    ]
    with pytest.raises(
        UserError, match="first rows.jsonl:1: label: 'label' marks answers as good or bad; expected `rows: u"
    ):
        run(tmp_path, content)
    theirs = content.replace(b"label", b"verdict_of_users")
    rows, _, _ = run(tmp_path, theirs, rows="unpaired", columns={"label": "verdict_of_users"})
    assert [row["label"] for row in rows] == [False, True]


def test_rows_with_media_and_rendered_rows_are_quarantined(tmp_path):
    rendered = "<|im_start|>user\nName a color.<|im_end|>\n<|im_start|>assistant\n"
    lines = [
        {"prompt": "2+2?", "completion": "4"},
        {"prompt": rendered, "completion": "Blue.<|im_end|>\n"},
        {
            "image": "x.jpg",
            "conversations": [{"from": "human", "value": "<image>?"}, {"from": "gpt", "value": "Plums."}],
        },
    ]
    content = "\n".join(map(json.dumps, lines)).encode()
    rows, quarantine, metrics = run(tmp_path, content, max_broken=0.7)
    assert len(rows) == 1 and metrics["reasons"] == {"column not read": 1, "rendered before": 1}
    assert [(reported["file"], reported["line"], reported["reason"].partition(";")[0]) for reported in quarantine] == [
        ("rows.jsonl", 2, "rendered before: prompt has '<|im_start|>user', a turn of the template ChatML"),
        ("rows.jsonl", 3, "column not read: 'image': images, video, audio and files are not supported"),
    ]
    rows, _, _ = run(tmp_path, content, max_broken=0.7, rendered="unwrap")
    assert [row["messages"] for row in rows][1] == user("Name a color.") + assistant("Blue.")


def test_rows_of_arrow_have_nulls_where_others_have_flags(tmp_path):
    flagged = [*user("a"), {**assistant("b")[0], "train": False}, *user("c"), *assistant("d")]
    rows = [{"messages": flagged, "tools": None}, {"messages": user("a") + assistant("b"), "tools": None}]
    (tmp_path / "raw").mkdir()
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "raw/rows.parquet")
    found, _, _ = run(tmp_path, None, "rows.parquet")
    assert [row["messages"] for row in found] == [row["messages"] for row in rows]


def test_references_become_checks_and_an_instruction_ends_every_prompt(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    rows = [{"question": "1 + 1?", "answer": "It is 2.\n#### 2"}, {"question": "Half?", "answer": "#### 1/2"}]
    (folder / "maths.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    params = Params(
        source="maths.jsonl", rows="prompt", reference="answer", instruction='End with "#### 42".', max_broken=0.5,
        license="mit",
    )  # fmt: skip
    outputs = [tmp_path / name for name in ("maths.jsonl", "quarantine.jsonl", "metrics.json")]
    main(params, folder, *outputs)
    (row,) = read_rows(outputs[0])
    assert row["prompt"] == [{"role": "user", "content": '1 + 1?\n\nEnd with "#### 42".'}]
    assert row["checks"] == [{"kind": "answer", "value": "2"}]
    (fault,) = read_rows(outputs[1])
    assert fault["reason"] == "reference: expected a number, got '1/2'"
    with pytest.raises(ValidationError, match="instruction: expected rows with a prompt"):
        Params(source="x", instruction="y", license="mit")
