"""A prompt that is computed once for all its answers gives TRL's log-probabilities, entropies and gradients."""

import pytest
import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from conftest import user
from ladder.training.shared_prompts import groups_of, row_of, visible
from perf.pico import pico_model, pico_tokenizer
from stages.grpo import SlotTrainer

PROMPTS = torch.tensor([[0, 0, 7, 8, 9], [3, 4, 5, 6, 7], [0, 0, 7, 8, 9], [0, 0, 0, 0, 2], [0, 0, 7, 8, 9]])
ANSWERS = torch.tensor([[40, 41, 42], [50, 0, 0], [40, 60, 0], [70, 71, 0], [80, 81, 82]])


def batch():
    """Prompts padded on the left and answers on the right, [rows, 8], and the mask of what counts."""
    ids = torch.cat([PROMPTS, ANSWERS], dim=1)
    return ids, (ids != 0).long()


def trainer(kind, folder):
    tokenizer = pico_tokenizer()
    config = GRPOConfig(output_dir=str(folder), report_to="none", bf16=False, use_cpu=True, temperature=0.7)
    prompt = Dataset.from_list([{"prompt": user("Say."), "row": "{}"}])
    return kind(pico_model(tokenizer).eval(), [lambda **_: []], config, prompt, processing_class=tokenizer)


def test_the_rows_by_hand():
    row = row_of(torch.tensor([7, 8, 9]), [torch.tensor([40, 41]), torch.tensor([50])])
    assert row.tokens.tolist() == [7, 8, 9, 40, 41, 9, 50]
    assert row.positions.tolist() == [0, 1, 2, 3, 4, 2, 3]
    assert row.answered.tolist() == [False, False, False, True, True, False, True]
    assert visible(row.blocks[None])[0].int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 0, 1, 0],
        [1, 1, 0, 0, 0, 1, 1],
    ]


def test_equal_prompts_form_a_group():
    first, second = torch.tensor([1, 2]), torch.tensor([1])
    assert groups_of([first, first, second, first]) == [[0, 1, 3], [2]]


def test_values_and_gradients_are_those_of_repeated_rows(tmp_path):
    found = []
    for kind in (GRPOTrainer, SlotTrainer):
        made = trainer(kind, tmp_path)
        widths: list[int] = []
        made.model.model.embed_tokens.register_forward_pre_hook(
            lambda _, given, kept=widths: kept.append(given[0].shape)
        )
        logps, entropies, _ = made._get_per_token_logps_and_entropies(made.model, *batch(), 3, compute_entropy=True)
        (logps * torch.linspace(-1, 2, logps.numel()).view_as(logps)).sum().backward()
        gradients = [weight.grad for weight in made.model.parameters()]
        found.append((logps.detach(), entropies.detach(), gradients))
        # 3 prompts; the longest row is 2 tokens, then 4 + 3 + 4
        assert widths == [(5, 8)] if kind is GRPOTrainer else [(3, 13)]
    (logps, entropies, gradients), (ours, our_entropies, our_gradients) = found
    kept = ANSWERS != 0
    assert torch.allclose(ours[kept], logps[kept], rtol=1e-5, atol=1e-5)
    assert torch.allclose(our_entropies[kept], entropies[kept], rtol=1e-5, atol=1e-5)
    assert not ours[~kept].any()
    for mine, theirs in zip(our_gradients, gradients, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-3, atol=1e-5 * float(theirs.abs().max()))


@pytest.mark.parametrize("dtype", [torch.bfloat16])
def test_other_number_types_keep_the_repeated_rows(tmp_path, dtype):
    made = trainer(SlotTrainer, tmp_path)
    made.model.to(dtype)
    shapes = []
    made.model.model.embed_tokens.register_forward_pre_hook(lambda _, given: shapes.append(tuple(given[0].shape)))
    made._get_per_token_logps_and_entropies(made.model, *batch(), 3)
    assert shapes == [(5, 8)]
