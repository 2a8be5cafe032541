"""Mixtures: apportionment worked by hand, draws by counting."""

from collections import Counter

import pytest

from conftest import assistant, user
from ladder.data.jsonl import write_rows
from ladder.data.mixing import apportion, common_type, converted, draw, mixed, offsets
from ladder.pipeline.stage import UserError


def test_apportion_by_largest_remainders():
    # By hand: the shares are 9.061, 7.179, 5.259, 3.319, 1.182; rounded down, their sum is 25; D has the largest rest.
    states = {"A": 9061, "B": 7179, "C": 5259, "D": 3319, "E": 1182}
    assert apportion(states, 26) == {"A": 9, "B": 7, "C": 5, "D": 4, "E": 1}


def test_apportion_is_exact():
    assert apportion({"a": 0.1, "b": 0.2, "c": 0.7}, 10) == {"a": 1, "b": 2, "c": 7}
    assert apportion({"a": 1, "b": 1}, 3) == {"a": 2, "b": 1}
    assert sum(apportion({"a": 1 / 3, "b": 1 / 7, "c": 0.01}, 1001).values()) == 1001


def test_offsets_are_where_rows_begin(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes('{"é": 1}\n\n{"b": 2}\r\n  \n{"c": 3}'.encode())
    content = (tmp_path / "rows.jsonl").read_bytes()
    assert [content[place:].split()[0] for place in offsets(tmp_path / "rows.jsonl")] == [
        '{"é":'.encode(),
        b'{"b":',
        b'{"c":',
    ]
    (tmp_path / "empty.jsonl").write_bytes(b"\n")
    for name, said in (("empty.jsonl", "no rows"), ("none.jsonl", "no such file")):
        with pytest.raises(UserError, match=f"{name}: {said}"):
            offsets(tmp_path / name)


def test_draws_are_without_replacement_until_a_part_is_used_up():
    drawn = draw([10, 4], [6, 10], ["a", "b"], seed=0)
    first = [ticket for ticket in drawn if ticket % 14 < 10]
    assert len(first) == len(set(first)) == 6 and max(first) < 10
    second = Counter(ticket % 14 for ticket in drawn if ticket % 14 >= 10)
    assert sorted(second.values()) == [2, 2, 3, 3]
    assert len(set(drawn)) == 16


def test_a_seed_and_a_name_decide_what_a_part_gives():
    def first(*arguments):
        return sorted(ticket for ticket in draw(*arguments) if ticket < 100)

    assert draw([100, 9], [10, 5], ["a", "b"], 0) == draw([100, 9], [10, 5], ["a", "b"], 0)
    assert first([100, 9], [10, 5], ["a", "b"], 0) == first([100, 50], [10, 20], ["a", "c"], 0)
    assert first([100, 9], [10, 5], ["a", "b"], 0) != first([100, 9], [10, 5], ["a", "b"], 1)
    assert draw([100, 9], [10, 5], ["a", "b"], 0) != sorted(draw([100, 9], [10, 5], ["a", "b"], 0))


def two(tmp_path, first, second):
    paths = [tmp_path / "first.jsonl", tmp_path / "second.jsonl"]
    write_rows(paths[0], first)
    write_rows(paths[1], second)
    return paths, ["filter/a", "source/b"], [offsets(path) for path in paths]


def test_a_row_keeps_its_source_or_gets_its_part(tmp_path):
    origin = {"name": "b", "row": "rows.jsonl:7"}
    first = [{"id": "x", "messages": user("1") + assistant("2")}, {"messages": user("3") + assistant("4")}]
    second = [{"id": "x", "source": origin, "score": 1, "messages": user("5") + assistant("6")}]
    rows = mixed(*two(tmp_path, first, second), [1, 0, 2, 5], "messages")
    assert list(rows) == [
        {"messages": user("3") + assistant("4"), "id": "filter/a:2", "source": {"name": "filter/a", "row": 2}},
        {"id": "filter/a:1", "messages": user("1") + assistant("2"), "source": {"name": "filter/a", "row": "x"}},
        {"id": "source/b:1", "source": origin, "score": 1, "messages": user("5") + assistant("6")},
        {"id": "source/b:1.2", "source": origin, "score": 1, "messages": user("5") + assistant("6")},
    ]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"prompt": user("1"), "chosen": 1, "rejected": 2},
            "of type preference, which cannot be converted to messages",
        ),
        ({"prompt": "1", "completion": assistant("2")}, "prompt: expected a list of messages, got '1'"),
        ({"text": "x"}, "expected the columns messages; .* got text"),
    ],
)
def test_a_row_that_does_not_become_the_type_is_named(tmp_path, row, said):
    paths, names, places = two(tmp_path, [{"messages": user("1")}], [row])
    with pytest.raises(UserError, match=f"second.jsonl: row 1: {said}"):
        list(mixed(paths, names, places, [0, 1], "messages"))


def test_the_last_answer_is_the_completion():
    said = user("1") + assistant("2") + [{"role": "tool", "content": "3"}] + assistant("4")
    one, other = {"messages": said}, {"prompt": said[:3], "completion": said[3:]}
    assert converted(one, "completion", "here") == other
    assert converted(other, "messages", "here") == converted({**other, "prompt": said[:1], "completion": said[1:]},
                                                             "messages", "here") == one  # fmt: skip
    for messages in ([], user("1"), assistant("2")):
        with pytest.raises(UserError, match="here: messages: expected an answer at the end"):
            converted({"messages": messages}, "completion", "here")


def test_flags_and_reasoning_stay_on_their_turns():
    turns = [*user("a"), {**assistant("b")[0], "train": False}, *user("c")]
    answer = [{**assistant("d")[0], "reasoning_content": "Hm"}]
    row = {"messages": turns + answer}
    apart = converted(row, "completion", "row 1")
    assert apart == {"prompt": turns, "completion": answer}
    assert converted(apart, "messages", "row 1") == row


def test_unpaired_preferences_are_mixed_with_their_kind_alone(tmp_path):
    row = {"prompt": user("a"), "completion": assistant("b"), "label": False}
    assert converted(row, "unpaired", "row 1") == row
    with pytest.raises(UserError, match="row 1: of type unpaired, which cannot be converted to messages"):
        converted(row, "messages", "row 1")
    paths = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    for path, made in zip(paths, (row, {"prompt": user("a"), "completion": assistant("b")}), strict=True):
        write_rows(path, [made])
    with pytest.raises(
        UserError, match="one.jsonl has rows of unpaired and .*two.jsonl has rows of completion: expected one row type"
    ):
        common_type(paths, [offsets(path) for path in paths])
