import pytest

from ladder.training.group_redraw import Group, Redrawn, other_prompts, redraw


def group(prompt, *rewards):
    return Group([{"row": prompt}] * len(rewards), [[n] for n in range(len(rewards))], list(rewards))


def prompts(groups):
    return [one.inputs[0]["row"] for one in groups]


class Answers:
    """Rewards of each prompt, and the prompts that were asked in each round."""

    def __init__(self, rewards):
        self.rewards, self.rounds = rewards, []

    def __call__(self, rows):
        asked = [row["row"] for row in rows]
        assert asked[::2] == asked[1::2]  # each prompt twice in a row
        self.rounds.append(asked[::2])
        return [group(prompt, *self.rewards[prompt]) for prompt in asked[::2]]


def drawn(first, rounds, others, rewards):
    answers = Answers(rewards)
    found = redraw(first, rounds, list(range(len(others))), lambda index: {"row": others[index]}, answers)
    return found, answers.rounds


def test_groups_with_equal_rewards_are_replaced_in_their_places():
    first = [group("a", 0, 0), group("b", 0, 1), group("c", 1, 1)]
    found, rounds = drawn(first, 3, "defg", {"d": (1, 1), "e": (0, 1), "f": (1, 0), "g": (0, 1)})
    # round 1 asks two prompts for two places, and e takes the first; round 2 asks one, and f takes the other
    assert (prompts(found.groups), rounds) == (["e", "b", "f"], [["d", "e"], ["f"]])
    assert found[1:] == (2, 2, 3)


def test_a_group_that_no_round_replaces_stays():
    first = [group("a", 0, 0), group("b", 0, 1)]
    found, rounds = drawn(first, 2, "cdef", {"c": (0, 0), "d": (1, 1)})
    assert (prompts(found.groups), rounds, found[1:]) == (["a", "b"], [["c"], ["d"]], (1, 0, 2))


@pytest.mark.parametrize(("rounds", "others"), [(0, "c"), (3, "")])
def test_without_rounds_or_prompts_nothing_is_drawn(rounds, others):
    first = [group("a", 0, 0)]
    assert drawn(first, rounds, others, {}) == (Redrawn(first, 1, 0, 0), [])


def test_rewards_of_equal_sums_are_equal():
    assert not group("a", 0.1 + 0.2, 0.3).varied
    assert group("a", 0.3, 0.30001).varied


def test_other_prompts_are_all_that_are_not_used_in_an_order_of_the_seed():
    first, second = other_prompts(50, {3, 4}, 0), other_prompts(50, {3, 4}, 1)
    assert sorted(first) == sorted(second) == [index for index in range(50) if index not in (3, 4)]
    assert first != second
    assert first == other_prompts(50, {3, 4}, 0)
