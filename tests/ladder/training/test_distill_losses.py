import math

import pytest
import torch
import torch.nn.functional as F
from trl.experimental.gkd import GKDTrainer

from ladder.training.distill_losses import TOKENS, generalized_jsd, hinton_sums, in_chunks
from ladder.training.teacher_logits import Kept, target


def logits(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def whole(distribution, top_k):
    """A teacher's `top_k` most likely tokens in double precision, the rest as one bucket."""
    head = distribution.topk(top_k, dim=-1)
    return head.indices, head.values, 1 - head.values.sum(-1)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_generalized_jsd_is_trls(beta, temperature):
    student, teacher = logits(6, 11), logits(6, 11, seed=1)
    ours = generalized_jsd(student, teacher, beta=beta, temperature=temperature)
    theirs = GKDTrainer.generalized_jsd_loss(
        student[None], teacher[None], beta=beta, temperature=temperature, reduction="none"
    )
    torch.testing.assert_close(ours, theirs[0].sum(-1))


def test_generalized_jsd_by_hand():
    teacher, student = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.75, 0.25]]).log()
    forward = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    reverse = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    # beta 1/4: M = (0.6875, 0.3125)
    between = 0.25 * 0.5 * (math.log(0.5 / 0.6875) + math.log(0.5 / 0.3125)) + 0.75 * (
        0.75 * math.log(0.75 / 0.6875) + 0.25 * math.log(0.25 / 0.3125)
    )
    for beta, expected in ((0.0, forward), (1.0, reverse), (0.25, between)):
        assert generalized_jsd(student, teacher, beta=beta, temperature=1.0).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_the_gradient_of_generalized_jsd_is_that_of_finite_differences(beta):
    def loss(student):
        return generalized_jsd(student, logits(3, 5, seed=1), beta=beta, temperature=1.5)

    assert torch.autograd.gradcheck(loss, (logits(3, 5).requires_grad_(),))


def test_with_every_token_named_the_loss_is_hintons():
    student, teacher, labels = logits(5, 7), logits(5, 7, seed=1), torch.tensor([1, 2, 3, 4, 5])
    p, q = (teacher / 3).softmax(-1), (student / 3).softmax(-1)
    indices, weights, rest = whole(p, 7)
    entropy = torch.special.entr(p).sum(-1)
    loss, ce, kl = hinton_sums(student, labels, indices, weights, 0 * rest, entropy, alpha=0.25, temperature=3.0)
    torch.testing.assert_close(kl, (p * (p.log() - q.log())).sum())
    torch.testing.assert_close(ce, F.cross_entropy(student, labels, reduction="sum"))
    torch.testing.assert_close(loss, 0.25 * ce + 0.75 * 9 * kl)


def test_the_rest_as_one_bucket_is_the_kl_of_the_coarser_distributions():
    student, teacher = logits(4, 9), logits(4, 9, seed=1)
    p, q = teacher.softmax(-1), student.softmax(-1)
    indices, weights, rest = whole(p, 3)
    coarse_p = torch.cat([weights, rest[:, None]], -1)
    named = q.gather(-1, indices)
    coarse_q = torch.cat([named, 1 - named.sum(-1, keepdim=True)], -1)
    labels, entropy = torch.zeros(4, dtype=torch.long), torch.special.entr(coarse_p).sum(-1)
    kl = hinton_sums(student, labels, indices, weights, rest, entropy, alpha=0.0, temperature=1.0)[2]
    torch.testing.assert_close(kl, (coarse_p * (coarse_p / coarse_q).log()).sum())
    assert kl < (p * (p / q).log()).sum()


@pytest.mark.parametrize("top_k", [3, 6])
def test_the_gradient_of_the_loss_is_that_of_finite_differences(top_k):
    indices, weights, rest = whole(logits(2, 6, seed=1).softmax(-1), top_k)
    rest = rest if top_k < 6 else 0 * rest

    def loss(student):
        fixed = (torch.tensor([0, 4]), indices, weights, rest, 0 * rest)
        return hinton_sums(student, *fixed, alpha=0.5, temperature=2.0)

    assert torch.autograd.gradcheck(loss, (logits(2, 6).requires_grad_(),))


def test_chunks_add_up_and_their_gradients_too():
    student = logits(2 * TOKENS + 3, 4).requires_grad_()
    labels = torch.arange(len(student)) % 4

    def loss(part, of):
        return F.cross_entropy(part, of, reduction="sum")[None]

    in_chunks(loss, student, labels).sum().backward()
    chunked, student.grad = student.grad, None
    loss(student, labels).sum().backward()
    torch.testing.assert_close(chunked, student.grad)


def test_a_target_of_a_certain_teacher_is_finite():
    sure = Kept(
        torch.tensor([[2]]),
        torch.zeros(1, 1).half(),
        torch.tensor([[0]]),
        torch.tensor([-math.inf]).half(),
        0 * logits(1),
    )
    of = target(sure)
    assert of.weights.tolist() == [[1.0, 0.0]] and of.rest.tolist() == [0.0]
