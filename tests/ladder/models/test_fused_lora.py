import copy

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn

from ladder.models.dora import factor_dora
from ladder.models.fused_lora import AdaptedProduct, FusedLinear, fuse_adapters


def adapted(layers, **settings):
    """An adapter on every layer of a sequence, away from its start."""
    torch.manual_seed(0)
    names = [str(number) for number in range(len(layers))]
    model = get_peft_model(nn.Sequential(*layers), LoraConfig(r=4, lora_alpha=6, target_modules=names, **settings))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
            elif "magnitude" in name:
                weight.mul_(torch.rand_like(weight) + 0.5)
    return model


def passed(model, x, autocast=False):
    """The output, and the gradients of x and of the adapters' weights."""
    x = x.detach().clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        out = model(x)
    out.float().square().sum().backward()
    return [out, x.grad, *(weight.grad for weight in model.parameters() if weight.requires_grad)]


@pytest.mark.parametrize("with_ratio", [False, True])
def test_gradients_are_those_of_finite_differences(with_ratio):
    torch.manual_seed(0)
    x, weight, a, b = (torch.randn(shape, dtype=torch.float64) for shape in ((2, 3, 5), (4, 5), (2, 5), (4, 2)))
    ratio = torch.rand(4, dtype=torch.float64) + 0.5 if with_ratio else None
    for part in (x, a, b, *([] if ratio is None else [ratio])):
        part.requires_grad_()
    assert torch.autograd.gradcheck(lambda *given: AdaptedProduct.apply(*given, 1.5), (x, weight, a, b, ratio))


@pytest.mark.parametrize(("dtype", "autocast", "error"), [(torch.float32, False, 1e-5), (torch.bfloat16, True, 2e-2)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dora", [True, False])
def test_output_and_gradients_are_pefts(dtype, autocast, error, bias, dora):
    theirs = adapted([nn.Linear(48, 40, bias=bias), nn.Linear(40, 24, bias=bias)], use_dora=dora)
    for layer in theirs.modules():
        if isinstance(layer, LoraLayer):
            layer.get_base_layer().to(dtype)
    ours = copy.deepcopy(theirs)
    factor_dora(ours, new=False)
    assert fuse_adapters(ours) == 2
    x = torch.randn(3, 7, 48).to(dtype)
    for mine, wanted in zip(passed(ours, x, autocast), passed(theirs, x, autocast), strict=True):
        assert mine.dtype == wanted.dtype
        assert (mine - wanted).abs().max() <= error * wanted.abs().max()


def test_a_ratio_near_one_survives_bfloat16():
    x, weight = torch.eye(2, dtype=torch.bfloat16), torch.tensor([[1.0, 1.0]], dtype=torch.bfloat16) * 100
    none = torch.zeros(1, 2), torch.zeros(1, 1)
    # 100 * 1.004 is 100.4, which bfloat16 rounds to 100.5; 1.004 itself would become 1.0
    assert AdaptedProduct.apply(x, weight, *none, torch.tensor([1.004]), 1.0).tolist() == [[100.5], [100.5]]


def test_what_is_left_to_peft():
    assert fuse_adapters(adapted([nn.Linear(8, 8)], lora_dropout=0.5)) == 0
    assert fuse_adapters(adapted([nn.Embedding(8, 8)])) == 0
    assert fuse_adapters(adapted([nn.Linear(8, 8)], lora_bias=True)) == 0
    assert fuse_adapters(adapted([nn.Linear(8, 8)], use_dora=True)) == 0  # peft's DoRA, without factored norms
    assert fuse_adapters(adapted([Linear4bit(128, 64, bias=False, compute_dtype=torch.float32)])) == 0


def test_without_the_adapter_and_merged_it_is_pefts_layer():
    model = adapted([nn.Linear(8, 6)])
    plain, x = copy.deepcopy(model), torch.randn(2, 8)
    fuse_adapters(model)
    assert isinstance(model.base_model.model[0], FusedLinear)
    with model.disable_adapter(), plain.disable_adapter():
        assert torch.equal(model(x), plain(x))
    model.merge_adapter()
    plain.merge_adapter()
    assert torch.equal(model(x), plain(x))
    assert model.state_dict().keys() == plain.state_dict().keys()
