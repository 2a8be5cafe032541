import pytest
import torch
from transformers import TrainingArguments

from ladder.models.checkpoint import load
from ladder.training.model_setup import climb
from ladder.training.ppo_losses import gae, token_rewards, whiten
from ladder.training.ppo_trainer import ActorCritic, ActorCriticTrainer

PAIRS = [([5, 6, 7, 8], [20, 21, 2]), ([9, 10], [30, 31, 32, 33, 2]), ([11, 12, 13], [40])]
TEMPERATURE = 0.7


@pytest.fixture
def trainer(tmp_path, base):
    settings = ActorCritic(
        rewards=[{"ended": {"weight": 1.0}}],
        unfinished=0.0,
        temperature=TEMPERATURE,
        max_new_tokens=8,
        samples_every=1,
        minibatches=1,
        epochs=1,
        gamma=0.9,
        gae_lambda=0.8,
        clip_range=0.2,
        value_clip_range=0.2,
        value_coefficient=0.1,
        value_learning_rate=1e-2,
        kl_coefficient=0.1,
        kl_estimator="k1",
        kl_target=None,
    )
    config = TrainingArguments(
        str(tmp_path), per_device_train_batch_size=3, use_cpu=True, report_to="none", remove_unused_columns=False
    )
    start = climb(base, base, None, seed=0).start
    prompts = [{"prompt_ids": prompt} for prompt, _ in PAIRS]
    return ActorCriticTrainer(start, config, prompts=prompts, settings=settings, reward_model=None)


def answers(minibatch, name):
    """The masked columns of each row."""
    rows = zip(minibatch[name], minibatch["mask"].bool(), strict=True)
    return [values[inside].tolist() for values, inside in rows]


def plain(model, prompt, answer):
    """Log-probabilities of one answer alone, at the rollouts' temperature."""
    with torch.no_grad():
        logps = (model(torch.tensor([prompt + answer])).logits[0] / TEMPERATURE).log_softmax(-1)
    return [logps[len(prompt) + place - 1, token].item() for place, token in enumerate(answer)]


def test_a_minibatch_reads_each_answer_as_if_it_were_alone(trainer, base):
    minibatch, divergences = trainer.minibatch(PAIRS, [1.0, 2.0, 3.0])
    model = load(base, base, dtype=torch.float32).model
    for found, (prompt, answer) in zip(answers(minibatch, "logps"), PAIRS, strict=True):
        assert found == pytest.approx(plain(model, prompt, answer), abs=1e-4)
    assert divergences == [0, 0, 0]


def test_the_advantages_are_of_the_scores_the_kl_and_the_critic(trainer, base):
    reference = load(base, base, dtype=torch.float32).model
    torch.manual_seed(0)
    with torch.no_grad():
        trainer.critic.weight.normal_()
        for weight in trainer.policy.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    minibatch, divergences = trainer.minibatch(PAIRS, [1.0, 2.0, 3.0])
    mask, values = minibatch["mask"], minibatch["values"]
    kl = torch.zeros_like(mask)
    for row, (prompt, answer) in enumerate(PAIRS):
        now, first = plain(trainer.policy, prompt, answer), plain(reference, prompt, answer)
        assert divergences[row] == pytest.approx(sum(now) - sum(first), abs=1e-3)
        kl[row, mask[row].bool()] = torch.tensor(now) - torch.tensor(first)
        with torch.no_grad():
            hidden = trainer.policy.model(torch.tensor([prompt + answer])).last_hidden_state[0]
        before = hidden[len(prompt) - 1 : -1] @ trainer.critic.weight[0]  # the state before each token
        assert answers(minibatch, "values")[row] == pytest.approx(before.tolist(), abs=1e-3)
    advantages = gae(token_rewards(torch.tensor([1.0, 2.0, 3.0]), kl, mask, 0.1), values, mask, gamma=0.9, lam=0.8)
    torch.testing.assert_close(minibatch["advantages"], whiten(advantages, mask), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(minibatch["returns"] * mask, (advantages + values) * mask, atol=1e-3, rtol=1e-3)


def test_the_entropy_is_that_of_the_distribution(trainer):
    minibatch, _ = trainer.minibatch(PAIRS, [0.0, 0.0, 0.0])
    _, _, entropy = trainer.read(trainer.policy, minibatch["ids"], minibatch["mask"])
    with torch.no_grad():
        logits = trainer.policy(torch.tensor([PAIRS[2][0]])).logits[0, -1]
    expected = torch.distributions.Categorical(logits=logits / TEMPERATURE).entropy()
    assert entropy[2][minibatch["mask"][2].bool()].tolist() == pytest.approx([expected.item()], abs=1e-4)


def test_the_reference_is_in_place_only_while_it_is_asked(trainer):
    weight = trainer.policy.model.norm.weight
    first = weight.detach().clone()
    with torch.no_grad():
        weight.add_(1)
    with trainer.reference():
        assert torch.equal(weight, first)
    assert torch.equal(weight, first + 1)
