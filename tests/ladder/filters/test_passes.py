import json
import random
import weakref
from functools import partial

import pytest

from conftest import assistant, user
from ladder.data.jsonl import read_rows, write_rows
from ladder.data.jsonl_stream import Rows, whole
from ladder.filters import basic, batch, passes
from ladder.filters.executor import spread
from ladder.filters.passes import BATCH_ROWS, Gate, join, run_passes
from ladder.filters.row_io import rewritten
from ladder.filters.stats import total
from ladder.filters.steps import FilterContext, parse
from ladder.pipeline.stage import UserError


@pytest.fixture
def given(tmp_path, monkeypatch):
    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "work"))
    write_rows(tmp_path / "task" / "quiz.jsonl", [{"prompt": "red green blue"}])
    return FilterContext(tmp_path / "task", tmp_path / "model", tmp_path / "base", tmp_path / "prompts")


def written(tmp_path, answers):
    rows = [{"id": str(n), "prompt": user("Q?"), "completion": assistant(text)} for n, text in enumerate(answers)]
    write_rows(tmp_path / "rows.jsonl", rows)
    return tmp_path / "rows.jsonl"


def run(tmp_path, given, answers, wanted, count=1):
    done = run_passes(
        written(tmp_path, answers), parse(wanted), given, tmp_path / f"passes-{count}", count, spread("local")
    )
    kept = [json.loads(line)["id"] for path in done.kept for line in path.read_text().splitlines()]
    rejected = {
        label: [(row["id"], row["reason"]) for path in paths for row in map(json.loads, path.read_text().splitlines())]
        for label, paths in done.rejected.items()
    }
    return kept, rejected, done


def upper(text: str) -> str:
    return text.upper()


def alone(batch: list, *, min: int) -> list:
    return [None if len(row["completion"][0]["content"]) >= min else "short" for row in batch]


def picky(batch: list) -> list:
    raise UserError("no grade")


def reads_twice(rows):
    count = sum(1 for _ in rows)
    return (f"{number + 1} of {count}" if row["completion"][0]["content"] == "last" else None
            for number, row in enumerate(rows))  # fmt: skip


def too_few(rows):
    return iter([None])


@pytest.fixture(autouse=True)
def more_filters(monkeypatch):
    for function in (upper, alone, picky, reads_twice, too_few):
        monkeypatch.setattr(basic, function.__name__, function, raising=False)
    monkeypatch.setattr(basic, "__all__", [*basic.__all__, "upper", "alone", "picky", "reads_twice", "too_few"])


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_kind_sees_what_the_steps_before_left(tmp_path, given, count):
    answers = ["a b c", "short", "x", "last", "A B C", "much too long a text", "last"]
    wanted = [
        {"length": {"min": 1, "max": 4}},
        {"alone": {"min": 2}},
        {"exact": None},
        {"reads_twice": None},
        {"upper": None},
    ]
    kept, rejected, done = run(tmp_path, given, answers, wanted, count)
    assert kept == ["0", "1"]
    assert rejected == {
        "length": [("5", "5 words")],
        "alone": [("2", "short")],
        "exact": [("4", "duplicate"), ("6", "duplicate")],
        "reads_twice": [("3", "3 of 3")],
        "upper": [],
    }
    assert [row["completion"] for row in Rows([whole(path) for path in done.kept])] == [
        assistant("A B C"),
        assistant("SHORT"),
    ]
    assert (total(done.tally, "in"), total(done.tally, "kept"), total(done.tally, "rejected")) == (7, 2, 5)


def test_a_filter_of_all_rows_that_miscounts_is_a_bug(tmp_path, given):
    with pytest.raises(ValueError, match="too_few returned fewer verdicts"):
        run(tmp_path, given, ["a", "b"], [{"too_few": None}])


def test_a_row_without_change_keeps_its_bytes_and_another_all_but_its_texts(tmp_path, given):
    line = '{"n":1e2, "big": 123456789012345678901234567890, "id": "0", "prompt": [{"role": "user", "content": "é"}], '
    good, blank = (
        '"completion": [{"content": "ok\\u0021", "role": "assistant"}]}\n',
        line + '"completion": [{"role": "assistant", "content": " ok! "}]}',
    )
    (tmp_path / "rows.jsonl").write_text(line + good + "\n" + blank)
    done = run_passes(tmp_path / "rows.jsonl", parse([{"exact": None}]), given, tmp_path / "passes", 1, spread("local"))
    (kept,), (rejected,) = done.kept, done.rejected["exact"]
    assert kept.read_text() == line + good
    assert rejected.read_text() == (
        '{"filter": "exact", "reason": "duplicate", "n": 100.0, "big": 123456789012345678901234567890, "id": "0", '
        '"prompt": [{"role": "user", "content": "é"}], "completion": [{"role": "assistant", "content": "ok!"}]}\n'
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": 1, "id": 2}', "rows.jsonl:3: not JSON: duplicate key 'id'"),
        ('{"id": "x", "n": {"a": "\\u0022\\u0022", "a": 1}}', "rows.jsonl:3: not JSON: duplicate key 'a'"),
        ('{"id": NaN}', "rows.jsonl:3: not JSON: NaN is not a JSON value"),
        ("[1]", "rows.jsonl:3: expected a JSON object, got list"),
        ('{"prompt": "a", "messages": [{"role": "user", "content": "a"}]}', "rows.jsonl:3: prompt: expected"),
        ('{"n": 1e999}', "rows.jsonl:3: not JSON: 1e999 is out of range for a number"),
        ('{"id": "x", "text": "no row"}', "rows.jsonl:3: expected the columns messages; prompt and completion; "),
        ('{"messages": [{"role": "user", "content": "a"}], "reason": "b"}', "rows.jsonl:3: the columns `filter` and"),
        ('{"messages": [{"role": "user", "content": "\\ud800"}]}', "rows.jsonl:3: unpaired surrogate"),
    ],
)
@pytest.mark.parametrize("count", [1, 3])
def test_what_is_no_row_is_named_by_file_and_line(tmp_path, given, line, said, count):
    path = written(tmp_path, ["a", "b"])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UserError) as refusal:
        run_passes(path, parse([{"exact": None}]), given, tmp_path / "passes", count, spread("local"))
    assert said in str(refusal.value)


def test_a_row_that_a_filter_refuses_is_named_by_filter_file_and_line(tmp_path, given):
    path = written(tmp_path, ["a", "b", "c"])
    for wanted, said in (
        (
            [{"length": {"min": 1, "max": 3}}, {"finished": None}],
            "rows.jsonl:1: finished: expected 'finished'",
        ),
        (
            [{"exact": None}, {"upper": None}, {"finished": None}],
            "row '0': finished: expected 'finished' of type",
        ),
        ([{"picky": None}], "rows.jsonl:1 to "),
    ):
        with pytest.raises(UserError) as refusal:
            run_passes(path, parse(wanted), given, tmp_path / "passes", 1, spread("local"))
        assert said in str(refusal.value)


def test_all_types_of_rows_pass(tmp_path, given):
    asked, good, bad = user(" Q "), assistant("yes "), assistant("no ")
    rows = [{"messages": asked + good}, {"prompt": asked, "chosen": good, "rejected": bad}]
    write_rows(tmp_path / "rows.jsonl", rows)
    done = run_passes(
        tmp_path / "rows.jsonl",
        parse([{"length": {"min": 1, "max": 1}}]),
        given,
        tmp_path / "passes",
        1,
        spread("local"),
    )
    assert read_rows(done.kept[0]) == [
        {"messages": user("Q") + assistant("yes")},
        {"prompt": user("Q"), "chosen": assistant("yes"), "rejected": assistant("no")},
    ]


def test_prompts_alone_are_filtered_before_anything_answers_them(tmp_path, given):
    texts = ["Name a fish.", " name a  FISH. ", "Name a fish, please.", "Is it red green blue?", "Why?"]
    write_rows(tmp_path / "rows.jsonl", [{"id": str(n), "prompt": user(text)} for n, text in enumerate(texts)])
    near = {"part": "prompt", "jaccard": 0.7, "ngram": 1, "unit": "words"}
    steps = parse([{"decontaminate": {"ngram": 3}}, {"exact": None}, {"near_duplicates": near}])
    done = run_passes(tmp_path / "rows.jsonl", steps, given, tmp_path / "passes", 1, spread("local"))
    assert [(row["id"], row["prompt"]) for row in read_rows(done.kept[0])] == [
        ("0", user("Name a fish.")),
        ("4", user("Why?")),
    ]
    wanted = parse([{"length": {"min": 1, "max": 9}}, {"refusal": {"reject": ["no_answer"]}}])
    with pytest.raises(UserError, match="no row is left after length. Its first reason: 0 words"):
        run_passes(tmp_path / "rows.jsonl", wanted, given, tmp_path / "answers", 1, spread("local"))


def test_the_gate_is_what_decontaminate_asks_and_eight_words_without_it():
    assert Gate.of(parse([{"exact": None}])) == Gate(8, 10, 0.3)
    assert Gate.of(parse([{"decontaminate": {"ngram": 13, "covers": 0.5}}])) == Gate(13, 10, 0.5)


def test_what_the_gate_finds_is_counted_and_reported(tmp_path, given):
    write_rows(given.tasks / "quiz.jsonl", [{"prompt": "a b c d e f g h i j"}])
    answers = ["fine", *["so a b c d e f g h"] * 30]
    kept, _, done = run(tmp_path, given, answers, [{"length": {"min": 1, "max": 20}}])
    assert len(kept) == 31
    assert total(done.tally, "contaminated") == 30
    assert done.contaminated[0] == "row '1' in quiz: a b c d e f g h"
    assert len(done.contaminated) == 10


@pytest.mark.parametrize("count", [1, 3])
def test_what_the_gate_finds_is_of_the_rows_that_are_kept_at_the_end(tmp_path, given, count):
    write_rows(given.tasks / "quiz.jsonl", [{"prompt": "a b c d e f g h i j"}])
    answers = ["a b c d e f g h", "fine", "A B C D E F G H", "x a b c d e f g h i", "fine"]
    kept, rejected, done = run(tmp_path, given, answers, [{"exact": None}, {"reads_twice": None}], count)
    assert (kept, rejected["exact"]) == (["0", "1", "3"], [("2", "duplicate"), ("4", "duplicate")])
    assert total(done.tally, "contaminated") == 2
    assert done.contaminated == ["row '0' in quiz: a b c d e f g h", "row '3' in quiz: a b c d e f g h i"]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_sketches_handed_from_pass_to_pass_say_what_the_rows_say(tmp_path, given, count):
    """Call each filter on the rows, one after the other, and compare with passes over shards."""
    near = {"part": "completion", "jaccard": 0.6, "ngram": 2, "unit": "words"}
    draw = random.Random(0)
    answers = [" ".join(draw.choices("abc", k=draw.randint(1, 6))) for _ in range(300)]
    kept, rejected, _ = run(
        tmp_path,
        given,
        answers,
        [{"near_duplicates": near}, {"exact": None}, {"near_duplicates": {**near, "part": "all"}}],
        count,
    )
    left = [{"id": str(n), "prompt": user("Q?"), "completion": assistant(text)} for n, text in enumerate(answers)]
    for label, judge in (
        ("near_duplicates", partial(basic.near_duplicates, **near)),
        ("exact", basic.exact),
        ("near_duplicates-2", partial(basic.near_duplicates, **{**near, "part": "all"})),
    ):
        reasons = list(judge(left))
        assert rejected[label] == [(row["id"], reason) for row, reason in zip(left, reasons, strict=True) if reason]
        left = [row for row, reason in zip(left, reasons, strict=True) if reason is None]
    assert kept == [row["id"] for row in left]
    assert len(rejected["near_duplicates"]) > 100


def test_a_batch_too_large_for_arrays_is_judged_as_a_small_one(tmp_path, given, monkeypatch):
    near = {"near_duplicates": {"part": "all", "jaccard": 0.6, "ngram": 2, "unit": "words"}}
    wanted = [{"length": {"min": 2, "max": 9}}, {"exact": None}, near]
    answers = ["a b c d e", "a", "a b c d e f", "A B c d e", "x y z"]
    small = run(tmp_path, given, answers, wanted, 1)
    monkeypatch.setattr(batch, "MAX_CHARACTERS", 3)
    large = run(tmp_path, given, answers, wanted, 2)
    assert small[:2] == large[:2]
    assert small[0] == ["0", "4"]


def test_an_unchanged_row_is_the_same_object():
    row = {"prompt": user("a"), "completion": assistant("b")}
    assert rewritten(row, str.strip) is row


def test_a_row_deeper_than_orjson_writes_is_read(tmp_path, given):
    line = '{"id": "0", "deep": ' + "[" * 300 + "]" * 300 + ', "prompt": [{"role": "user", "content": "Hi"}]}\n'
    (tmp_path / "rows.jsonl").write_text(line)
    done = run_passes(tmp_path / "rows.jsonl", parse([{"exact": None}]), given, tmp_path / "passes", 1, spread("local"))
    assert done.kept[0].read_text() == line


def test_parts_are_joined_in_order(tmp_path):
    parts = [tmp_path / name for name in "ab"]
    for part in parts:
        part.write_text(part.name)
    join(parts, tmp_path / "folder" / "whole")
    join([], tmp_path / "folder" / "nothing")
    assert (tmp_path / "folder" / "whole").read_text() == "ab"
    assert (tmp_path / "folder" / "nothing").read_bytes() == b""
    assert not any(part.exists() for part in parts)


class Held(dict):
    """A row whose live instances can be counted."""

    __hash__ = object.__hash__


def test_no_more_rows_are_held_than_two_batches(tmp_path, given, monkeypatch):
    alive, counts = weakref.WeakSet(), []
    parsed = passes.parsed

    def counted(line, where):
        row, line = parsed(line, where)
        row = Held(row)
        alive.add(row)
        counts.append(len(alive))
        return row, line

    monkeypatch.setattr(passes, "parsed", counted)
    run(tmp_path, given, [f"answer {n}" for n in range(10 * BATCH_ROWS)], [{"length": {"min": 1, "max": 3}}])
    assert len(counts) == 10 * BATCH_ROWS
    assert BATCH_ROWS <= max(counts) <= 2 * BATCH_ROWS


def test_reasoning_is_rewritten_with_the_answer():
    row = {"messages": [{"role": "assistant", "content": "a", "reasoning_content": "b ", "train": False}]}
    assert rewritten(row, str.strip) == {
        "messages": [{"role": "assistant", "content": "a", "reasoning_content": "b", "train": False}]
    }
    assert rewritten(row, str) is row
