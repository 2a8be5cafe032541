"""Trees of replies: the numbers of Open Assistant's published sample, and a small tree by hand."""

import gzip
import json
import os
from itertools import combinations
from pathlib import Path

import pytest

from conftest import assistant, user
from ladder.misfits import Misfit
from ladder.trees import best, pairs

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
        ({"prompt": prompter("Hi", {"role": "user", "text": "x"})}, "not a tree: expected a message with a role"),
    ],
)
def test_what_is_no_tree_is_told(row, reason):
    for function in (best, lambda tree: list(pairs(tree))):
        with pytest.raises(Misfit, match=reason):
            function(row)


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
