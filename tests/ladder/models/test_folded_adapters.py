"""Adapters folded into the weights give peft's own outputs, and leave the weights as they were."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from ladder.models.folded_adapters import folded_adapters
from perf.pico import pico_model, pico_tokenizer


def adapted(**settings):
    """A pico model with an adapter whose B is not zero."""
    torch.manual_seed(0)
    model = get_peft_model(
        pico_model(pico_tokenizer()), LoraConfig(r=4, target_modules="all-linear", **settings)
    ).eval()
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    return model


def logits(model):
    with torch.no_grad():
        return model(input_ids=torch.arange(3, 15)[None]).logits


def folded_layers(model):
    return [layer for layer in model.modules() if getattr(layer, "merged", False)]


def test_the_outputs_are_those_of_pefts_merge_and_the_weights_come_back():
    model = adapted(lora_alpha=8)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    alone = logits(model)
    with folded_adapters(model):
        assert folded_layers(model)
        inside = logits(model)
    assert not folded_layers(model)
    after = model.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    assert torch.equal(logits(model), alone)
    assert torch.allclose(inside, alone, rtol=1e-4, atol=1e-5)
    assert torch.equal(inside, logits(model.merge_and_unload()))


def test_the_weights_come_back_after_an_error():
    model = adapted()
    alone = logits(model)
    with pytest.raises(RuntimeError), folded_adapters(model):
        raise RuntimeError
    assert torch.equal(logits(model), alone)


@pytest.mark.parametrize(
    ("settings", "dtype"),
    [({"use_dora": True}, torch.float32), ({"lora_bias": True}, torch.float32), ({}, torch.bfloat16)],
)
def test_what_cannot_be_folded_stays_as_it_is(settings, dtype):
    model = adapted(**settings).to(dtype)
    with folded_adapters(model):
        assert not folded_layers(model)


def test_dropout_in_training_stays():
    model = adapted(lora_dropout=0.5).train()
    with folded_adapters(model):
        assert not folded_layers(model)
    with folded_adapters(model.eval()):
        assert folded_layers(model)
