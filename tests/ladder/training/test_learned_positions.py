"""TRL's head with a selection of positions gives the values and gradients of a plain cross-entropy."""

import torch
from torch.nn.functional import cross_entropy
from trl.trainer import utils

from ladder.training.learned_positions import select_on_cpu
from perf.pico import pico_model, pico_tokenizer


def test_only_learned_positions_are_computed(monkeypatch):
    monkeypatch.setattr(utils, "_use_triton", lambda device: False)  # TRL's answer for a CPU
    rows, real = [], utils._ChunkedLogProbFunction

    class Counting:
        @staticmethod
        def apply(hidden, *rest):
            rows.append(len(hidden))
            return real.apply(hidden, *rest)

    monkeypatch.setattr(utils, "_ChunkedLogProbFunction", Counting)
    ids = torch.arange(3, 23).view(2, 10)
    labels = ids.masked_fill(torch.arange(10) < 6, -100)
    expected = pico_model(pico_tokenizer())
    cross_entropy(expected(ids).logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()).backward()
    for number, select in enumerate((lambda: None, select_on_cpu)):
        select()
        model = pico_model(pico_tokenizer())
        utils.add_fused_lm_head(model)
        model(input_ids=ids, labels=labels, fused_lm_head=True).loss.backward()
        assert rows[number] == (18, 8)[number]  # 2 rows of 9 predictions, 4 learned each
        for weight, other in zip(model.parameters(), expected.parameters(), strict=True):
            assert torch.allclose(weight.grad, other.grad, rtol=1e-3, atol=1e-5 * float(other.grad.abs().max()))
