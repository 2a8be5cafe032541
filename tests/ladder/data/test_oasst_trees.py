"""Reply trees: the counts of Open Assistant's published sample, and a small tree by hand."""

import gzip
import json
import os
import random
from itertools import combinations
from pathlib import Path

import pytest

from conftest import assistant, user
from ladder.data.oasst_trees import best, pairs, planted
from ladder.data.readers import Record, beginning
from ladder.pipeline.errors import InvalidRow

SHARED = os.environ.get("LADDER_SHARED_DATA")


def prompter(text, *replies):
    return {"role": "prompter", "text": text, "replies": list(replies)}


def reply(text, rank, *replies, **more):
    return {"role": "assistant", "text": text, "rank": rank, "replies": list(replies), **more}


TREE = {
    "message_tree_id": "t",
    "prompt": prompter(
        "Hi",
        reply("worst", 2),
        reply("best", 0, prompter("And?", reply("second", None), prompter("no")), prompter("why?")),
        reply("middle", 1, prompter("So?", reply("so", 0), reply("even", 0))),
        reply("taken back", 3, deleted=True),
    ),
}


def test_the_best_path_follows_ranks_to_the_last_answer():
    assert best(TREE) == user("Hi") + assistant("best") + user("And?") + assistant("second")


def test_every_two_ranks_make_a_pair_and_equal_ranks_make_none():
    prompt = user("Hi")
    assert list(pairs(TREE)) == [
        (prompt, assistant("best"), assistant("middle")),
        (prompt, assistant("best"), assistant("worst")),
        (prompt, assistant("middle"), assistant("worst")),
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "text"}, "not a tree: expected prompt to be the message of a prompter"),
        ({"prompt": prompter("Hi")}, "no reply"),
        ({"prompt": prompter("Hi", "text")}, "not a tree: expected replies to be a list of messages"),
        (
            {"prompt": prompter("Hi", {"role": "user", "text": "x"})},
            "not a tree: expected a message with a text and a role",
        ),
    ],
)
def test_what_is_no_tree_is_reported(row, reason):
    for function in (best, lambda tree: list(pairs(tree))):
        with pytest.raises(InvalidRow, match=reason):
            function(row)


def message(name, parent, role="prompter", **more):
    return {"message_id": name, "parent_id": parent, "role": role, "text": name.upper(), "lang": "en", **more}


def test_messages_that_are_rows_become_trees_wherever_they_lie():
    rows = [
        message("c", "a", "assistant", rank=1),
        message("x", "none", "assistant"),
        message("a", None),
        {"prompt": "2+2?", "completion": "4"},
        message("e", "e2"),
        message("b", "a", "assistant", rank=0.0),
        message("d", "b"),
        message("e2", "e", "assistant"),
        message("a", None),
    ]
    made = list(planted(("f.jsonl", Record(line, row)) for line, row in enumerate(rows, start=1)))
    assert [(record.line, record.fault) for _, record in made] == [
        (4, ""),
        (9, "message twice: 'a'"),
        (3, ""),
        (2, "no path to a root: 'x' answers 'none'"),
        (5, "no path to a root: 'e' answers 'e2'"),
        (8, "no path to a root: 'e2' answers 'e'"),
    ]
    (tree,) = [record.row for _, record in made if record.line == 3]
    assert tree["lang"] == "en" and best(tree) == user("A") + assistant("B")
    assert list(pairs(tree)) == [(user("A"), assistant("B"), assistant("C"))]


def test_a_chain_of_messages_of_any_length_is_a_tree():
    rows = [message(str(n), str(n - 1) if n else None, ("prompter", "assistant")[n % 2]) for n in range(3000)]
    ((_, record),) = planted(("f.jsonl", Record(line, row)) for line, row in enumerate(rows, start=1))
    assert [one["content"] for one in best(record.row)] == [str(n) for n in range(3000)]
    assert beginning(record).startswith('{"message_id": "0", "parent_id": null')


def flat(node, parent=None):
    rows = [{**{name: value for name, value in node.items() if name != "replies"}, "parent_id": parent}]
    return rows + [row for reply in node.get("replies", []) for row in flat(reply, node["message_id"])]


@pytest.mark.skipif(not SHARED, reason="LADDER_SHARED_DATA names no folder of the shared data")
def test_open_assistants_messages_in_any_order_are_its_trees():
    content = gzip.decompress((Path(SHARED) / "train/oasst_en_100_tree.jsonl.gz").read_bytes())
    trees = [json.loads(line) for line in content.splitlines()]
    rows = [row for tree in trees for row in flat(tree["prompt"])]
    random.Random(0).shuffle(rows)
    made = [record.row for _, record in planted(("f", Record(n, row)) for n, row in enumerate(rows))]

    def keyed(several):
        return {tree["prompt"]["message_id"]: sorted(map(repr, pairs(tree))) for tree in several}

    assert len(made) == 100 and keyed(made) == keyed(trees)


@pytest.mark.skipif(not SHARED, reason="LADDER_SHARED_DATA names no folder of the shared data")
def test_open_assistants_100_trees_are_100_paths_and_754_pairs():
    content = gzip.decompress((Path(SHARED) / "train/oasst_en_100_tree.jsonl.gz").read_bytes())
    trees = [json.loads(line) for line in content.splitlines()]
    paths = [best(tree) for tree in trees]
    assert [path[0]["content"] for path in paths] == [tree["prompt"]["text"] for tree in trees]
    assert {path[-1]["role"] for path in paths} == {"assistant"}
    assert sum(len(list(pairs(tree))) for tree in trees) == 754
    for prompt, chosen, rejected in pairs(trees[0]):
        ranks = {node["text"]: node["rank"] for node in trees[0]["prompt"]["replies"]}
        if len(prompt) == 1:
            assert (ranks[chosen[0]["content"]], ranks[rejected[0]["content"]]) in combinations(range(9), 2)
