"""The ladder's preference losses against their equations, TRL's losses, and finite differences."""

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainingArguments
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer

from ladder.models.checkpoint import Model
from ladder.training.pairwise_trainer import PairTrainer
from perf.pico import pico_model, pico_tokenizer
from stages.orpo import log_odds, orpo_loss
from stages.simpo import simpo_loss

CHOSEN, REJECTED = torch.tensor([-0.5, -2.0]), torch.tensor([-1.5, -0.25])


def softplus(x):
    return math.log(1 + math.exp(x))


def odds(mean_logp):
    return math.exp(mean_logp) / (1 - math.exp(mean_logp))


def test_simpo_is_meng_equation_6():
    loss, chosen, rejected = simpo_loss(CHOSEN, REJECTED, beta=2.0, gamma=0.5)
    # 2 * (-0.5 + 1.5) - 0.5 = 1.5 and 2 * (-2 + 0.25) - 0.5 = -4
    assert loss.tolist() == pytest.approx([softplus(-1.5), softplus(4.0)], rel=1e-6)
    assert (chosen.tolist(), rejected.tolist()) == ([-1.0, -4.0], [-3.0, -0.5])


def test_simpo_is_trl_simpo_with_the_same_gamma():
    settings = {"loss_type": "simpo", "simpo_gamma": 0.7, "beta": 2.5, "label_smoothing": 0.0, "alpha": 0.0}
    trl = SimpleNamespace(**settings, accelerator=SimpleNamespace(device="cpu"))
    for ours, theirs in zip(
        simpo_loss(CHOSEN, REJECTED, beta=2.5, gamma=0.7), CPOTrainer.cpo_loss(trl, CHOSEN, REJECTED), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_orpo_is_hong_equations_6_and_7():
    loss, chosen, rejected = orpo_loss(CHOSEN, REJECTED, beta=0.1)
    expected = [
        -won + 0.1 * math.log(1 + odds(lost) / odds(won))
        for won, lost in zip(CHOSEN.tolist(), REJECTED.tolist(), strict=True)
    ]
    assert loss.tolist() == pytest.approx(expected, rel=1e-6)
    assert (chosen - rejected).exp().tolist() == pytest.approx(
        [odds(-0.5) / odds(-1.5), odds(-2.0) / odds(-0.25)], rel=1e-6
    )


def test_orpo_is_trl_orpo():
    trl = SimpleNamespace(beta=0.3, accelerator=SimpleNamespace(device="cpu"))
    ratio = ORPOTrainer.odds_ratio_loss(trl, CHOSEN, REJECTED)[0]
    torch.testing.assert_close(orpo_loss(CHOSEN, REJECTED, beta=0.3)[0], -CHOSEN - ratio)


@pytest.mark.parametrize("loss", [partial(simpo_loss, beta=2.0, gamma=0.5), partial(orpo_loss, beta=0.1)])
def test_gradients_are_finite_differences(loss):
    chosen = torch.tensor([-0.01, -0.7, -9.0], dtype=torch.float64, requires_grad=True)
    rejected = torch.tensor([-3.0, -0.7, -0.02], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (chosen, rejected))


@pytest.mark.parametrize("logp", [0.0, -1e-9, -1e-4, -30.0, -200.0])
def test_log_odds_stay_finite_at_both_ends(logp):
    mean_logp = torch.tensor(logp, requires_grad=True)
    value = log_odds(mean_logp)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(mean_logp.grad)
    if logp < -1e-6:
        assert value.item() == pytest.approx(logp - math.log(-math.expm1(logp)), rel=1e-3)


PAIRS = [
    {"prompt_ids": [5, 6, 7], "chosen_ids": [20, 21, 22, 2], "rejected_ids": [30, 2]},
    {"prompt_ids": [8], "chosen_ids": [40, 2], "rejected_ids": [50, 51, 52]},
]


@pytest.mark.parametrize("loss", [partial(simpo_loss, beta=2.0, gamma=0.5), partial(orpo_loss, beta=0.5)])
def test_the_gradient_of_a_whole_model_is_the_finite_difference_along_it(tmp_path, loss):
    tokenizer = pico_tokenizer()
    config = TrainingArguments(str(tmp_path), use_cpu=True, bf16=False, report_to="none", remove_unused_columns=False)
    trainer = PairTrainer(Model(pico_model(tokenizer), tokenizer, None), config, PAIRS, loss)
    model, batch = trainer.model, trainer.data_collator(PAIRS)
    trainer.compute_loss(model, batch).backward()
    weights = [weight for weight in model.parameters() if weight.grad is not None]
    norm = math.sqrt(sum(weight.grad.square().sum().item() for weight in weights))
    ends = []
    with torch.no_grad():
        for step in (1e-3, -2e-3):
            for weight in weights:
                weight.add_(weight.grad, alpha=step / norm)
            ends.append(trainer.compute_loss(model, batch).item())
    # along the gradient the slope is its norm
    assert (ends[0] - ends[1]) / 2e-3 == pytest.approx(norm, rel=1e-2)
