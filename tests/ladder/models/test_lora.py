import copy

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.dora import DoraLinearLayer
from torch import nn

from ladder.models.dora import FactoredDora, factor_dora, row_squares


def adapted(linear, dropout=0.0):
    """A DoRA adapter in float32 on one layer, with values other than the initial ones."""
    config = LoraConfig(r=4, use_dora=True, target_modules=["0"], lora_dropout=dropout)
    torch.manual_seed(1)
    model = get_peft_model(nn.Sequential(linear), config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
            elif "magnitude" in name:
                weight.mul_(torch.rand_like(weight) + 0.5)
    return model


def passed(model, x):
    """Return the output, and the gradients of x and of the adapter's three weights."""
    x = x.detach().clone().requires_grad_()
    torch.manual_seed(2)  # for dropout
    out = model(x)
    out.float().square().sum().backward()
    return [out, x.grad, *(weight.grad for weight in model.parameters() if weight.requires_grad)]


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_output_and_gradients_are_those_of_pefts_dora(dtype, error, bias, dropout):
    torch.manual_seed(0)
    theirs = adapted(nn.Linear(48, 40, bias=bias, dtype=dtype), dropout)
    ours = copy.deepcopy(theirs)
    factor_dora(ours, new=False)
    assert [type(module) for module in ours.modules() if isinstance(module, DoraLinearLayer)] == [FactoredDora]
    x = torch.randn(7, 48, dtype=dtype)
    for mine, wanted in zip(passed(ours, x), passed(theirs, x), strict=True):
        assert mine.dtype == wanted.dtype
        assert (mine - wanted).abs().max() <= error * wanted.abs().max()


def test_the_norm_is_that_of_the_sum():
    torch.manual_seed(0)
    layer, a, b = nn.Linear(300, 50, bias=False), torch.randn(4, 300), torch.randn(50, 4)
    model = adapted(layer)
    factor_dora(model, new=True)
    dora = next(module for module in model.modules() if isinstance(module, FactoredDora))
    exact = (layer.weight.double() + 0.5 * (b.double() @ a.double())).norm(dim=1)
    assert torch.allclose(dora.norms(layer, a, b, 0.5).double(), exact, rtol=1e-6)
    assert "squares" not in "".join(model.state_dict())


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_quantized_layer_is_taken_as_it_is(dropout):
    torch.manual_seed(0)
    layer = Linear4bit(128, 64, bias=False, compute_dtype=torch.float32, quant_type="nf4").to("cpu")
    theirs = adapted(layer, dropout)
    ours = copy.deepcopy(theirs)
    factor_dora(ours, new=False)
    x = torch.randn(7, 128)
    for mine, wanted in zip(passed(ours, x), passed(theirs, x), strict=True):
        assert (mine - wanted).abs().max() <= 1e-4 * wanted.abs().max()


def test_squares_of_more_rows_than_are_read_at_once():
    layer = nn.Linear(3, 2500, dtype=torch.bfloat16)
    assert torch.equal(row_squares(layer), layer.weight.float().square().sum(1))
