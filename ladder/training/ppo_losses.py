"""PPO losses and advantages as pure functions of [batch, length] tensors, one column per answer token.

`mask` is 1 on answer tokens and 0 elsewhere. A token's value is that of the state before it.
"""

from typing import Literal

import torch
from torch import Tensor

Estimator = Literal["k1", "k3"]


def logps_and_entropy(logits: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the tokens and entropies of the distributions, both [batch, length] in nats.

    tokens: [batch, length]. logits: [batch, length, vocabulary]. The entropies carry no gradient.
    """
    normalizer = logits.logsumexp(-1)
    with torch.no_grad():
        entropy = normalizer - (logits.softmax(-1) * logits).sum(-1)
    return logits.gather(-1, tokens[..., None])[..., 0] - normalizer, entropy


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the masked tokens, a scalar."""
    return (values * mask).sum() / mask.sum()


def kl_estimate(logps: Tensor, reference_logps: Tensor, estimator: Estimator) -> Tensor:
    """Estimate KL(policy || reference) at each sampled token, in nats (Schulman 2020, "Approximating KL divergence").

    k1 is log p - log q: unbiased, and negative where the reference assigns the token a higher probability. k3 is q/p -
    1 - log q/p: unbiased too, never negative, and of lower variance.
    """
    difference = logps - reference_logps
    return difference if estimator == "k1" else torch.expm1(-difference) + difference


def token_rewards(scores: Tensor, kl: Tensor, mask: Tensor, coefficient: float) -> Tensor:
    """Token rewards: -coefficient * KL, plus the score [batch] at the last answer token (Ouyang et al. 2022, eq. 2)."""
    last = mask * (mask.flip(1).cumsum(1).flip(1) == 1)
    return last * scores[:, None] - coefficient * kl * mask


def gae(rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, lam: float) -> Tensor:
    """Generalized advantage estimation (Schulman et al. 2016, eq. 16).

    A_t = delta_t + gamma * lam * A_t+1 with delta_t = r_t + gamma * V_t+1 - V_t. After the last token, A and V are 0.
    """
    advantage, next_value = torch.zeros_like(values[:, 0]), torch.zeros_like(values[:, 0])
    advantages = torch.zeros_like(values)
    for place in reversed(range(values.shape[1])):
        delta = rewards[:, place] + gamma * next_value - values[:, place]
        advantage = (delta + gamma * lam * advantage) * mask[:, place]
        next_value = values[:, place] * mask[:, place]
        advantages[:, place] = advantage
    return advantages


def whiten(values: Tensor, mask: Tensor) -> Tensor:
    """Normalize to mean 0 and variance 1 over the masked tokens; 0 elsewhere."""
    centered = values - masked_mean(values, mask)
    return centered * torch.rsqrt(masked_mean(centered**2, mask) + 1e-8) * mask


def policy_loss(
    logps: Tensor, old_logps: Tensor, advantages: Tensor, mask: Tensor, clip_range: float
) -> tuple[Tensor, Tensor]:
    """Negative clipped surrogate objective (Schulman et al. 2017, eq. 7), and the share of tokens that it clips."""
    ratio = torch.exp(logps - old_logps)
    plain, clipped = ratio * advantages, ratio.clamp(1 - clip_range, 1 + clip_range) * advantages
    return -masked_mean(torch.minimum(plain, clipped), mask), masked_mean((clipped < plain).float(), mask)


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, clip_range: float) -> Tensor:
    """Clipped value loss: half the squared error (as in OpenAI's baselines; Engstrom et al. 2020, section 2).

    Per token, the larger error counts: that of the value, or that of the value clipped to within clip_range of the old
    one.
    """
    clipped = old_values + (values - old_values).clamp(-clip_range, clip_range)
    return masked_mean(torch.maximum((values - returns) ** 2, (clipped - returns) ** 2), mask) / 2


def explained_variance(values: Tensor, returns: Tensor) -> float:
    """1 - Var(returns - values) / Var(returns) over tokens [tokens]: 1 for a perfect critic, 0 for a constant one."""
    spread = returns.var(correction=0)
    return float(1 - (returns - values).var(correction=0) / spread) if spread > 0 else 0.0


def adapted(coefficient: float, kl: float, target: float, *, rate: float = 0.1) -> float:
    """Adapt the KL coefficient to move an answer's KL (nats) toward the target (Ziegler et al. 2019, section 2.2)."""
    return coefficient * (1 + rate * max(-0.2, min(0.2, (kl - target) / target)))
