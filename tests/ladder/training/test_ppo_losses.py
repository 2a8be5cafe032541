import math

import pytest
import torch

from ladder.training.ppo_losses import (
    adapted,
    explained_variance,
    gae,
    kl_estimate,
    logps_and_entropy,
    policy_loss,
    token_rewards,
    value_loss,
    whiten,
)


def double(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def test_logps_and_entropy_are_torchs():
    torch.manual_seed(0)
    logits, tokens = torch.randn(2, 3, 5, dtype=torch.float64), torch.randint(5, (2, 3))
    logps, entropy = logps_and_entropy(logits, tokens)
    categorical = torch.distributions.Categorical(logits=logits)
    torch.testing.assert_close(logps, categorical.log_prob(tokens))
    torch.testing.assert_close(entropy, categorical.entropy())


def test_gae_by_hand():
    # gamma 0.9, lambda 0.5: delta = 0 + 0.9*2 - 1 = 0.8, 1 + 0.9*3 - 2 = 1.7, 4 - 3 = 1
    # A3 = 1, A2 = 1.7 + 0.45*1 = 2.15, A1 = 0.8 + 0.45*2.15 = 1.7675
    mask = double([1, 1, 1])
    advantages = gae(double([0, 1, 4]), double([1, 2, 3]), mask, gamma=0.9, lam=0.5)
    torch.testing.assert_close(advantages, double([1.7675, 2.15, 1.0]))


def test_gae_of_a_row_does_not_see_its_padding():
    rewards, values = double([7, 0, 1, 4, 7, 7]), double([9, 1, 2, 3, 9, 9])
    advantages = gae(rewards, values, double([0, 1, 1, 1, 0, 0]), gamma=0.9, lam=0.5)
    torch.testing.assert_close(advantages, double([0, 1.7675, 2.15, 1.0, 0, 0]))


def test_gae_with_lambda_zero_is_the_td_error_and_with_one_the_return():
    torch.manual_seed(0)
    rewards, values = torch.randn(2, 5, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)
    mask, after = torch.ones(2, 5, dtype=torch.float64), torch.cat([values[:, 1:], torch.zeros(2, 1)], 1)
    torch.testing.assert_close(gae(rewards, values, mask, gamma=0.9, lam=0.0), rewards + 0.9 * after - values)
    returns = gae(rewards, values, mask, gamma=1.0, lam=1.0) + values
    torch.testing.assert_close(returns, rewards.flip(1).cumsum(1).flip(1))


def test_the_score_is_at_the_last_token_and_the_kl_at_every_one():
    rewards = token_rewards(
        torch.tensor([5.0, 3.0]), double([9, 1, 2, 9], [1, 2, 3, 4]), double([0, 1, 1, 0], [1] * 4), 0.1
    )
    torch.testing.assert_close(rewards, double([0, -0.1, 5 - 0.2, 0], [-0.1, -0.2, -0.3, 3 - 0.4]))


def test_both_kl_estimates_have_the_true_divergence_as_their_mean():
    p, q = double([0.5, 0.3, 0.2]), double([0.2, 0.5, 0.3])
    true = (p * (p / q).log()).sum()
    for estimator in ("k1", "k3"):
        torch.testing.assert_close((p * kl_estimate(p.log(), q.log(), estimator)).sum(), true)
    assert (kl_estimate(p.log(), q.log(), "k3") >= 0).all()
    assert kl_estimate(double([math.log(0.5)]), double([math.log(0.25)]), "k3").item() == pytest.approx(
        0.25 / 0.5 - 1 - math.log(0.25 / 0.5)
    )


def test_whitening_counts_the_answers_tokens_alone():
    # the mean of 1, 3 and 5 is 3 and the variance 8/3
    whitened = whiten(double([1, 3, 100], [5, -7, 9]), double([1, 1, 0], [1, 0, 0]))
    torch.testing.assert_close(whitened, double([-2, 0, 0], [2, 0, 0]) / math.sqrt(8 / 3))


def test_the_clipped_surrogate_by_hand():
    # ratios 1.5, 1.5, 0.5, 0.5 and 1.1 at clip 0.2: min(1.5, 1.2) = 1.2, -min: -1.5; 0.5; min(-0.5, -0.8) = -0.8; 1.1
    ratio, advantages = double([1.5, 1.5, 0.5, 0.5, 1.1, 9]), double([1, -1, 1, -1, 1, 9])
    loss, clipped = policy_loss(ratio.log(), torch.zeros_like(ratio), advantages, double([1, 1, 1, 1, 1, 0]), 0.2)
    assert loss.item() == pytest.approx(-(1.2 - 1.5 + 0.5 - 0.8 + 1.1) / 5)
    assert clipped.item() == pytest.approx(2 / 5)


def test_the_clipped_value_loss_by_hand():
    # old 0, return 1, clip 0.2: value 0.5 is clipped to 0.2: 0.64; value -1 unclipped: 4; value 0.1 unclipped: 0.81
    loss = value_loss(double([0.5, -1, 0.1]), double([0, 0, 0]), double([1, 1, 1]), double([1, 1, 1]), 0.2)
    assert loss.item() == pytest.approx((0.64 + 4 + 0.81) / 3 / 2)


def test_the_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    old, advantages, returns = (torch.randn(2, 4, dtype=torch.float64) for _ in range(3))
    mask = double([1, 1, 1, 0], [0, 1, 1, 1])
    logps = (old + 0.1 * torch.randn(2, 4)).requires_grad_()
    assert torch.autograd.gradcheck(lambda given: policy_loss(given, old, advantages, mask, 0.2)[0], (logps,))
    assert torch.autograd.gradcheck(lambda given: value_loss(given, old, returns, mask, 0.2), (logps,))


def test_one_epoch_without_critic_has_reinforces_gradient():
    torch.manual_seed(0)
    logits = torch.randn(3, 4, 6, dtype=torch.float64, requires_grad=True)
    tokens, scores = torch.randint(6, (3, 4)), double(1, 0, 2)
    mask = double([1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0])
    logps = logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    nothing = torch.zeros_like(mask)
    advantages = gae(token_rewards(scores, nothing, mask, 0.0), nothing, mask, gamma=1.0, lam=1.0)
    loss, _ = policy_loss(logps, logps.detach(), advantages, mask, 0.2)
    (found,) = torch.autograd.grad(loss, logits)
    # d log softmax(z)[a] / dz = onehot(a) - softmax(z), by hand, without autograd
    scored = torch.nn.functional.one_hot(tokens, 6) - logits.detach().softmax(-1)
    torch.testing.assert_close(found, -(scores[:, None] * mask)[..., None] * scored / mask.sum())


def test_a_leave_one_out_baseline_as_critic_gives_rloos_advantages():
    # Ahmadian et al. 2024, eq. 8: R_i minus the mean of the others; rewards 1, 0, 5 give 1 - 2.5, 0 - 3, 5 - 0.5
    scores, others = double(1, 0, 5), double(2.5, 3, 0.5)
    mask = double([1, 1, 1], [1, 0, 0], [1, 1, 0])
    values = others[:, None].expand(3, 3)
    rewards = token_rewards(scores, torch.zeros_like(mask), mask, 0.0)
    advantages = gae(rewards, values, mask, gamma=1.0, lam=1.0)
    torch.testing.assert_close(advantages, (scores - others)[:, None] * mask)


def test_a_perfect_critic_explains_everything_and_a_constant_one_nothing():
    returns = torch.tensor([1.0, 2.0, 4.0])
    assert explained_variance(returns, returns) == 1
    assert explained_variance(torch.full((3,), 5.0), returns) == pytest.approx(0, abs=1e-6)
    assert explained_variance(returns, torch.ones(3)) == 0


def test_the_adaptive_coefficient_is_zieglers():
    assert adapted(0.1, 6.6, 6.0) == pytest.approx(0.1 * (1 + 0.1 * 0.1))
    assert adapted(0.1, 60.0, 6.0) == pytest.approx(0.1 * 1.02)
    assert adapted(0.1, 0.0, 6.0) == pytest.approx(0.1 * 0.98)
