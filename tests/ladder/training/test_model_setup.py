import pytest
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from transformers import set_seed

from conftest import record_files
from ladder.models.checkpoint import load, load_complete, read_rung, save_rung
from ladder.models.config_passthrough import quantization_check
from ladder.models.heads import scoring
from ladder.pipeline.stage import UserError
from ladder.training.model_setup import climb
from perf.pico import pico_model, pico_tokenizer

NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16"}
IDS = torch.tensor([[1, 50, 60, 70, 2, 1, 99]])


def logits(model):
    with torch.no_grad():
        return model.eval()(IDS).logits.float()


@pytest.mark.parametrize("lora", [{"r": 4}, {"r": 4, "use_dora": True}])
def test_an_adapter_begins_with_the_values_that_peft_draws_for_the_seed(base, lora):
    """The rehearsal before the weights are read does not advance the random state."""
    made = get_peft_model_state_dict(climb(base, base, lora, seed=3).start.model)
    whole = load_complete(base, base).model
    set_seed(3)
    config = LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM", **lora)
    drawn = get_peft_model_state_dict(get_peft_model(whole, config))
    names = [name for name in drawn if "lora_A" in name]
    assert len(names) == 14 and all(torch.equal(made[name], drawn[name]) for name in names)


@pytest.fixture
def adapter(tmp_path, base):
    """An adapter rung on base that changes its logits."""
    return saved(tmp_path, base, {"r": 4})


def saved(tmp_path, base, lora):
    climbed = climb(base, base, lora, seed=3)
    with torch.no_grad():
        for name, weight in climbed.start.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.05)
    directory = tmp_path / "sft/chat"
    start = climbed.start
    save_rung(directory, start.model, start.tokenizer, rung="sft/chat", method="sft", base=climbed.base)
    return directory


@pytest.mark.parametrize("lora", [{"r": 4}, {"r": 4, "use_rslora": True}, {"r": 4, "use_dora": True}])
def test_an_adapter_and_its_merged_model_are_one(tmp_path, base, lora):
    directory = saved(tmp_path, base, lora)
    apart, merged = (
        [logits(way(directory, base, dtype=dtype).model) for dtype in (torch.float32, torch.bfloat16)]
        for way in (load, load_complete)
    )
    assert torch.allclose(apart[0], merged[0], atol=1e-4)
    plain = logits(load(base, base, dtype=torch.float32).model)
    for rounded in (apart[1], merged[1]):
        assert (rounded - merged[0]).norm() < 0.03 * merged[0].norm() < 0.3 * (merged[0] - plain).norm()


@pytest.mark.parametrize("lora", [{"r": 4}, {"r": 4, "use_dora": True}])
def test_a_new_adapter_starts_from_the_parent(base, lora):
    assert torch.equal(logits(climb(base, base, lora, seed=0).start.model), logits(load(base, base).model))


def test_quantized_weights_carry_a_new_adapter_in_float32(base):
    model = climb(base, base, {"r": 4}, seed=0, quantization=NF4).start.model
    trained = {weight.dtype for weight in model.parameters() if weight.requires_grad}
    frozen = {type(weight).__name__ for name, weight in model.named_parameters() if "proj.base_layer" in name}
    assert (trained, frozen) == ({torch.float32}, {"Params4bit"})
    assert model.get_input_embeddings().weight.dtype == torch.bfloat16


def test_the_parents_adapter_goes_on_over_quantized_weights(base, adapter):
    climbed = climb(adapter, base, "continue", seed=0, quantization=NF4)
    plain = get_peft_model_state_dict(load(adapter, base).model)
    assert climbed.base == read_rung(base)
    assert climbed.trainable_parameters == sum(weight.numel() for weight in plain.values())
    for name, weight in get_peft_model_state_dict(climbed.start.model).items():
        assert torch.equal(weight, plain[name])


@pytest.mark.parametrize(
    ("parent", "lora", "said"),
    [
        ("base", None, "quantized weights have no gradient"),
        ("adapter", {"r": 4}, "must start from base, got the parent sft/chat. Give lora: continue, parent: base"),
        ("base", "continue", "lora: continue needs an adapter, but the parent base is complete"),
    ],
)
def test_what_cannot_be_quantized_is_refused(base, adapter, parent, lora, said):
    with pytest.raises(UserError, match=said):
        climb(base if parent == "base" else adapter, base, lora, seed=0, quantization=NF4)


def test_a_parent_over_quantized_weights_is_checked_as_any_other(tmp_path, base, adapter):
    template = adapter / "chat_template.jinja"
    template.write_text(template.read_text().replace("assistant", "Assistant"))
    record_files(adapter)
    with pytest.raises(UserError, match="the tokenizer or chat template differs from the hashes in rung.json"):
        climb(adapter, base, "continue", seed=0, quantization=NF4)
    tokenizer = pico_tokenizer()
    scorer = scoring(pico_model(tokenizer), tokenizer)
    save_rung(tmp_path / "reward", scorer, tokenizer, rung="reward/a", method="reward")
    with pytest.raises(UserError, match="expected a language model, got a reward model"):
        climb(tmp_path / "reward", tmp_path / "reward", {"r": 4}, seed=0, quantization=NF4)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3, "expected arguments of BitsAndBytesConfig or null"),
        ({"load_in_4bits": True}, "load_in_4bits: no such argument of BitsAndBytesConfig"),
        ({"load_in_4bit": "yes"}, "load_in_4bit must be a boolean"),
        (
            {"load_in_4bit": True, "bnb_4bit_compute_dtype": "bf16"},
            "expected one of float16, bfloat16, float32, got 'bf16'",
        ),
        ({"load_in_8bit": False}, "expected load_in_4bit: true or load_in_8bit: true"),
    ],
)
def test_what_bitsandbytes_does_not_know_is_named(value, said):
    with pytest.raises(ValueError) as error:
        quantization_check(value)
    assert said in str(error.value)


def test_an_adapter_that_would_change_its_base_is_refused(base, adapter):
    with pytest.raises(UserError, match="got 'pissa', which changes the weights below the adapter"):
        climb(base, base, {"r": 4, "init_lora_weights": "pissa"}, seed=0)
    # on another parent the result is one complete model, whatever its initialization
    assert climb(adapter, base, {"r": 4, "init_lora_weights": "pissa"}, seed=0).base is None
