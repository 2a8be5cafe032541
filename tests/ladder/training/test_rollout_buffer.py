import math

import pytest

from conftest import user
from ladder.inference.types import Completion
from ladder.models.checkpoint import load
from ladder.training.rollout_buffer import Rollouts, RolloutSampler, score, weighted_sums


def test_each_rollout_is_repeated_and_no_prompt_is_in_two():
    order = list(RolloutSampler(11, size=3, repeats=2, seed=0))
    assert len(order) == len(RolloutSampler(11, size=3, repeats=2, seed=0)) == 18
    rollouts = [order[at : at + 6] for at in (0, 6, 12)]
    assert all(rollout[:3] == rollout[3:] for rollout in rollouts)
    assert len({prompt for rollout in rollouts for prompt in rollout}) == 9


def test_the_order_is_of_the_epoch_alone():
    sampler, other = (RolloutSampler(20, size=5, repeats=1, seed=7) for _ in range(2))
    first = list(sampler)
    sampler.set_epoch(1)
    other.set_epoch(1)
    assert list(sampler) == list(other) != first


def test_weighted_sums_by_hand():
    assert weighted_sums([[1.0, 0.5], [2.0, None]], [1.0, -0.25]) == [0.5, 0.5]


def rollouts(rewards, unfinished):
    return Rollouts(rewards=rewards, unfinished=unfinished, temperature=1.0, max_new_tokens=8, samples_every=1)


def test_answers_are_scored_and_a_cut_one_is_not_worth_its_text(base):
    model = load(base, base)
    rows = [{"id": str(n), "prompt": user("?"), "prompt_ids": [5, 6]} for n in range(2)]
    answers = [Completion(list(model.tokenizer("4 ").input_ids), True), Completion([9], False)]
    specs = [{"format": {"pattern": "^4$", "weight": 3.0}}, {"ended": {"weight": 0.5}}]
    made = score(rows, answers, model, rollouts(specs, -1.0), None)
    assert made.texts[0] == "4"
    assert made.ids == [([5, 6], [*answers[0].tokens, model.stop]), ([5, 6], [9])]
    assert made.scores == [3.5, -1.0]
    means = made.means()
    assert (means["reward"], means["rewards/format"], means["completion_length"]) == (1.25, 0.5, 2.0)
    assert made.excerpt(1, 8, [0.25, 0.0])[0]["kl"] == 0.25
    assert score(rows, answers, model, rollouts(specs, None), None).scores == [3.5, 0.0]


def test_a_reward_that_can_state_of_no_answer_is_nan(base):
    model = load(base, base)
    ended = rollouts([{"ended": {"weight": 1}}], None)
    made = score([{"prompt": user("?"), "prompt_ids": [5]}], [Completion([9], True)], model, ended, None)
    unknown = type(made)(made.rows, made.ids, made.texts, made.finished, {"judge": [None]}, made.scores)
    assert math.isnan(unknown.means()["rewards/judge"])
    assert made.means()["reward"] == pytest.approx(1.0)
