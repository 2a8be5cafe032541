"""Every preference loss against its equation, TRL's own, and finite differences."""

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from transformers import TrainingArguments
from trl import DPOConfig, KTOConfig
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer

from conftest import pico_model, pico_tokenizer
from ladder.models import Model
from ladder.pairwise import PairTrainer
from stages import dpo, kto
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
    {
        "prompt_ids": [5, 6, 7],
        "chosen_ids": [20, 21, 22, 2],
        "rejected_ids": [30, 2],
        "ref_chosen_logps": -20.0,
        "ref_rejected_logps": -12.0,
    },
    {
        "prompt_ids": [8],
        "chosen_ids": [40, 2],
        "rejected_ids": [50, 51, 52],
        "ref_chosen_logps": -11.0,
        "ref_rejected_logps": -15.0,
    },
]


def pair_trainer(loss):
    def trainer(model, tokenizer, arguments):
        return PairTrainer(Model(model, tokenizer, None), TrainingArguments(**arguments), PAIRS, loss), PAIRS

    return trainer


def dpo_trainer(model, tokenizer, arguments):
    config = DPOConfig(**arguments, beta=0.1, precompute_ref_log_probs=True)
    rows = Dataset.from_list(PAIRS)
    return dpo.ReferenceTrainer(model, args=config, train_dataset=rows, processing_class=tokenizer), PAIRS


def kto_trainer(model, tokenizer, arguments):
    config = KTOConfig(**arguments, beta=0.1, precompute_ref_log_probs=True)
    # z0 takes no gradient: a reference that finds the other answers certain keeps it at 0, where it is clamped
    rows = [
        {**row, "KL_completion_ids": answer, "ref_KL_logps": 0.0}
        for row, answer in ((row, [60, 2]) for row in kto.unpaired(PAIRS, 0))
    ]
    data = Dataset.from_list(rows)
    return kto.ReferenceTrainer(model, args=config, train_dataset=data, processing_class=tokenizer), rows


@pytest.mark.parametrize(
    "trainer_of",
    [
        pair_trainer(partial(simpo_loss, beta=2.0, gamma=0.5)),
        pair_trainer(partial(orpo_loss, beta=0.5)),
        dpo_trainer,
        kto_trainer,
    ],
    ids=["simpo", "orpo", "dpo", "kto"],
)
def test_the_gradient_of_a_whole_model_is_the_finite_difference_along_it(tmp_path, trainer_of):
    tokenizer = pico_tokenizer()
    arguments = {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False, "report_to": "none"}
    trainer, rows = trainer_of(pico_model(tokenizer), tokenizer, {**arguments, "remove_unused_columns": False})
    model, batch = trainer.model, trainer.data_collator(rows)
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
