import random
from collections import Counter
from pathlib import Path

import pytest

from ladder.inference.types import Answer, Sampling
from ladder.pipeline.stage import UserError
from ladder.synthesis.pool import Instruction, Plan
from ladder.synthesis.self_instruct import conversation, entries, self_instruct, shown, unusable

PROMPTS = Path(__file__).parents[3] / "prompts" / "self_instruct"
SEEDS = [Instruction(f"s{n}", f"Seed {n}: {'abcdefghij'[n] * 3} {n}{n}{n} tell") for n in range(10)]


def plan(**changed):
    given = {"name": "new", "method": "self_instruct", "count": 12, "rounds": 3, "batch": 4, "novelty": 0.7}
    return Plan(**{**given, "split": None, "sampling": Sampling(1.0, 1.0, 60, 0), **changed})


def numbered():
    """Reply stub: instructions with nothing in common; records its requests."""
    asked = []

    def generate(conversations, sampling):
        start = len(asked)
        asked.extend((messages, sampling) for messages in conversations)
        return [Answer(f"k{n} l{n} m{n} o{n}", 4, True) for n in range(start, len(asked))]

    return generate, asked


def test_a_list_is_its_entries_and_any_other_reply_is_one():
    said = '1. Sort this list:\n- pear\n- fig\n2) Name a river. \n\n 3. "Say 4. only."'
    assert entries(Answer(said, 9, True)) == ["Sort this list:\n- pear\n- fig", "Name a river.", "Say 4. only."]
    assert entries(Answer(said, 9, False)) == ["Sort this list:\n- pear\n- fig", "Name a river."]
    assert entries(Answer("Put these in order:\n1. pear\n2. fig", 9, True)) == ["Put these in order:\n1. pear\n2. fig"]


def test_eight_are_shown_two_of_them_the_machine_s_once_it_has_made_two():
    machine = [Instruction(f"m{n}", "x") for n in range(5)]
    for made, expected in [(0, 0), (1, 1), (2, 2), (5, 2)]:
        drawn = shown(random.Random(made), SEEDS, machine[:made])
        assert len({one.id for one in drawn}) == 8
        assert sum(one.id.startswith("m") for one in drawn) == expected


def test_examples_are_the_assistant_s_turns():
    messages = conversation(SEEDS[:2], "A task.", "One more.")
    assert [message["role"] for message in messages] == ["user", "assistant", "user", "assistant", "user"]
    contents = [message["content"] for message in messages]
    assert contents == ["A task.", SEEDS[0].text, "A task.", SEEDS[1].text, "One more."]


def test_what_a_text_model_cannot_do_is_named():
    assert unusable("Draw me a Picture.", ["go to", "picture"]) == "names 'picture'"
    assert unusable("Go to the shop!", ["go to", "picture"]) == "names 'go to'"
    assert unusable("Where did pictures goto?", ["go to", "picture"]) is None


def test_the_pool_grows_and_feeds_the_next_round():
    generate, asked = numbered()
    harvest = self_instruct(generate, PROMPTS, SEEDS, plan())
    assert [row["source"]["round"] for row in harvest.rows] == [1] * 4 + [2] * 4 + [3] * 4
    assert [row["prompt"][0]["content"] for row in harvest.rows[:2]] == ["k0 l0 m0 o0", "k1 l1 m1 o1"]
    for row, (messages, _) in zip(harvest.rows, asked, strict=True):
        parents = row["source"]["parents"]
        of_machine = sum(name.startswith("new-") for name in parents)
        assert (len(parents), of_machine) == (8, 0 if row["source"]["round"] == 1 else 2)
        assert len(messages) == 17
    assert Counter(sampling.seed for _, sampling in asked).most_common()[0][1] == 4
    assert len(harvest.pool) == 22


def test_rounds_end_when_enough_is_made_and_the_last_one_is_kept_whole():
    generate, asked = numbered()
    assert len(self_instruct(generate, PROMPTS, SEEDS, plan(count=5)).rows) == 8
    assert len(asked) == 8


def test_what_is_not_new_stays_out_of_the_pool():
    replies = iter(["1. Tell me about owls at night.\n2. Tell me about owls at dusk.\n3. Draw an owl now.\n4. Hm"])

    def generate(conversations, sampling):
        return [Answer(next(replies, SEEDS[3].text), 9, finished=number > 0) for number, _ in enumerate(conversations)]

    harvest = self_instruct(generate, PROMPTS, SEEDS, plan(rounds=1, batch=2))
    assert [row["prompt"][0]["content"] for row in harvest.rows] == ["Tell me about owls at night."]
    assert [(row["filter"], row["reason"]) for row in harvest.rejected] == [
        ("novelty", "0.83 ROUGE-L with new-00000"),  # 2 * 5 / 12
        ("blocked", "names 'draw'"),
        ("exact", "the same as s3"),
    ]


def test_too_few_seeds_are_refused():
    with pytest.raises(UserError, match="synthesize.new: seeds: expected at least 8, the number per request, got 7"):
        self_instruct(numbered()[0], PROMPTS, SEEDS[:7], plan())
