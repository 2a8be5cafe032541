import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from conftest import record_files
from ladder.models.checkpoint import load, read_rung, save_rung
from ladder.models.merge_preflight import plan
from ladder.pipeline.stage import UserError
from perf.pico import pico_model, pico_tokenizer

TOKENIZER = pico_tokenizer()


@pytest.fixture
def other(tmp_path):
    """Make the rung sft/other, with changes to its configuration."""

    def make(tokenizer=TOKENIZER, *, layers=2, **changed):
        model = pico_model(tokenizer, seed=5, layers=layers).to(torch.bfloat16)
        for key, value in changed.items():
            setattr(model.config, key, value)
        save_rung(tmp_path / "other", model, tokenizer, rung="sft/other", method="sft")
        return tmp_path / "other"

    return make


def linear(*weights, **changed):
    entries = zip(("base", "sft/other"), weights, strict=True)
    models = [{"model": name, "parameters": {"weight": weight}} for name, weight in entries]
    return {"merge_method": "linear", "models": models, "dtype": "bfloat16", **changed}


def stack(*ranges, method="passthrough"):
    names = ("base", "sft/other")
    slices = [{"sources": [{"model": name, "layer_range": each}]} for name, each in zip(names, ranges, strict=True)]
    return {"merge_method": method, "slices": slices}


def refused(config, base, *directories):
    with pytest.raises(UserError) as refusal:
        plan(config, [base, *directories], base)
    return str(refusal.value)


def rewrite(directory, change):
    """Change a rung's tensors, and update rung.json to describe the new file."""
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    record_files(directory)


def test_a_plan_has_a_task_a_tensor_and_its_weights(base, other):
    made = plan(linear(0.25, [0.5, 1.0]), [base, other()], base)
    layer = {task.output_weight.name: weights for task, weights in zip(made.tasks, made.weights, strict=True)}
    assert layer.keys() == load_file(base / "model.safetensors").keys()
    assert layer["model.layers.0.mlp.up_proj.weight"] == {"base": 0.25, "sft/other": 0.5}
    assert layer["model.layers.1.mlp.up_proj.weight"] == {"base": 0.25, "sft/other": 1.0}
    assert made.output.num_hidden_layers == 2


def test_no_weight_is_read(tmp_path, base, other, monkeypatch):
    def read(*_):
        raise AssertionError("a weight was read")

    monkeypatch.setattr("mergekit.io.lazy_tensor_loader.LazyTensorLoader.get_tensor", read)
    monkeypatch.setattr("transformers.PreTrainedModel.from_pretrained", read)
    assert plan(linear(0.5, 0.5), [base, other()], base).tasks


@pytest.mark.parametrize(
    ("config", "share"),
    [
        (linear(1.0, 3.0), {"base": 0.25, "sft/other": 0.75}),
        (linear(1.0, 3.0, parameters={"normalize": False}), {"base": 1.0, "sft/other": 3.0}),
        (
            {
                "merge_method": "task_arithmetic",
                "base_model": "base",
                "models": [{"model": "sft/other", "parameters": {"weight": -0.5}}],
                "parameters": {"lambda": 2.0},
            },
            {"base": 2.0, "sft/other": -1.0},
        ),
    ],
)
def test_the_shares_of_a_sum(base, other, config, share):
    assert plan(config, [base, other()], base).shares(0) == share


def test_models_and_parents_name_each_other(base, other):
    config = linear(0.5, 0.5)
    config["models"][1]["model"] = "sft/third"
    said = refused(config, base, other())
    assert "merge config names ['sft/third'] (did you mean 'sft/other'?); its parents are ['base', 'sft/other']" in said
    config["models"].pop()
    assert "the parents ['sft/other'] are not used" in refused(config, base, other())


def test_other_templates_are_refused(base, other):
    tokenizer = pico_tokenizer()
    tokenizer.chat_template = tokenizer.chat_template.replace("\n", " ")
    assert "base and sft/other: expected the same chat template" in refused(linear(0.5, 0.5), base, other(tokenizer))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"layers": 3}, "num_hidden_layers of config.json is 2 in the first and 3 in the second"),
        ({"rms_norm_eps": 0.5}, "rms_norm_eps of config.json is 1e-06 in the first and 0.5 in the second"),
    ],
)
def test_other_configurations_are_refused(base, other, changed, said):
    assert said in refused(linear(0.5, 0.5), base, other(**changed))


def test_a_layer_that_is_not_there_is_refused(base, other):
    said = refused(stack([0, 2], [1, 4]), base, other(layers=3))
    assert "within layers 0 to 2 of sft/other, got [1, 4]" in said


def test_what_mergekits_planner_finds_is_reported_by_name(base, other):
    config = linear(0.5, 0.5, merge_method="passthrough")
    for entry in config["models"]:
        del entry["parameters"]
    assert "Merge method requires exactly 1 inputs" in refused(config, base, other())
    config = linear(0.5, 0.5)
    del config["models"][1]["parameters"]
    assert "Missing required parameter weight for sft/other" in refused(config, base, other())


def test_tensors_that_do_not_fit_are_refused(base, other):
    name = "model.layers.1.mlp.up_proj.weight"
    directory = other()
    rewrite(directory, lambda tensors: tensors.update({name: torch.zeros(48, 32)}))
    assert f"{name}: expected one shape in all models, got [64, 32] in base, [48, 32] in sft/other" in refused(
        linear(0.5, 0.5), base, directory
    )
    rewrite(directory, lambda tensors: tensors.pop(name))
    assert f"no tensor {name}, which the merge needs" in refused(linear(0.5, 0.5), base, directory)
    rewrite(directory, lambda tensors: tensors.update({name: torch.zeros(64, 32), "model.extra": torch.zeros(2)}))
    assert "does not know the tensor model.extra and would drop it" in refused(linear(0.5, 0.5), base, directory)


def test_a_reward_model_is_refused(base, other):
    directory = other()
    described = json.loads((directory / "rung.json").read_text())
    (directory / "rung.json").write_text(json.dumps({**described, "head": "reward"}))
    assert "expected a language model, got a reward model" in refused(linear(0.5, 0.5), base, directory)


def test_an_adapter_on_another_base_is_refused(tmp_path, base, other):
    config = LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(load(base, base).model, config)
    ground = other()
    save_rung(tmp_path / "a", adapted, TOKENIZER, rung="sft/other", method="sft", base=read_rung(ground))
    assert "the adapter was trained on a different base" in refused(linear(0.5, 0.5), base, tmp_path / "a")


@pytest.mark.parametrize(
    ("weights", "changed", "said"),
    [
        ((0.5, -0.5), {}, "linear divides by the sum of the weights, which is 0"),
        (
            (0.5, 0.5),
            {"merge_method": "dare_linear", "base_model": "base"},
            "density: expected the share of weights to keep, from 0 to 1, got 50.0",
        ),
    ],
)
def test_values_without_a_meaning_are_refused(base, other, weights, changed, said):
    config = linear(*weights, **changed)
    if changed:
        config["models"] = [{"model": "sft/other", "parameters": {"weight": 1.0, "density": 50}}]
    assert said in refused(config, base, other())
