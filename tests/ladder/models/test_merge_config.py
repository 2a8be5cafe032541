from pathlib import Path

import pytest

from ladder.models.merge_config import merge_config, named_models, with_paths


def ties(**changed):
    models = [{"model": "sft/one", "parameters": {"weight": 0.5, "density": [0.2, 0.8]}}]
    return {"merge_method": "ties", "base_model": "base", "models": models, "dtype": "float32", **changed}


def slerp(**source):
    sources = [{"model": "base", "layer_range": [0, 2]}, {"model": "sft/one", "layer_range": [0, 2], **source}]
    parameters = {"t": [{"filter": "mlp", "value": [0, 0.5]}, {"value": 0.5}]}
    slices = [{"sources": sources}]
    return {"merge_method": "slerp", "base_model": "base", "slices": slices, "parameters": parameters}


@pytest.mark.parametrize("config", [ties(), slerp(), ties(parameters={"lambda": 0.7, "normalize": False})])
def test_what_mergekit_takes_passes_as_it_is(config):
    assert merge_config(config) is config


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (ties(merge_methd="ties"), "no such mergekit key: merge_methd"),
        (ties(models=[{"model": "sft/one", "parametrs": {}}]), "no such mergekit key: models.0.parametrs"),
        (slerp(layers=[0, 2]), "no such mergekit key: slices.0.sources.1.layers"),
        (ties(parameters={"lambda": {"value": 1, "filtr": "mlp"}}), "no such mergekit key: parameters.lambda.filtr"),
        (ties(parameters={"lambda": {"vale": 1}}), "no such mergekit key: parameters.lambda.vale"),
        (ties(parameters={"lambda": None}), "parameters.lambda: expected a number, a list of numbers over the layers"),
        (ties(models=3), "models: expected a valid list"),
        ({"models": []}, "merge_method: missing"),
        ({"merge_method": "linear"}, "Exactly one of 'models', 'slices', or 'modules' must be present"),
        (ties(merge_method="tise"), "merge_method: expected one of arcee_fusion, breadcrumbs"),
        (ties(dtype="bf16"), 'Unimplemented dtype "bf16"'),
        (ties(base_model=None), "base_model: missing; ties computes the other models' differences from it"),
        (
            ties(parameters={"densty": 0.5}),
            "parameters.densty: no such parameter of ties; expected one of int8_mask, normalize",
        ),
        (slerp(parameters={"t": 0.5}), "slices.0.sources.1.parameters.t: slerp has one t for all models"),
        (
            ties(models=[{"model": "base", "parameters": {"weight": 0.5}}, *ties()["models"]]),
            "models.0.parameters.weight: ties does not read weight of the base model",
        ),
        (
            ties(merge_method="task_arithmetic"),
            "models.0.parameters.density: no effect, because task_arithmetic does not prune",
        ),
        (ties(tokenizer={"source": "base"}), "tokenizer: not supported; a merge keeps the tokenizer and template"),
        (ties(chat_template="chatml"), "chat_template: not supported; a merge keeps the tokenizer and template"),
        (ties(base_model={"model": {"path": "elsewhere"}}), "expected a rung's name as a model, got {'model'"),
    ],
)
def test_what_mergekit_would_ignore_or_trip_over_is_refused(config, said):
    with pytest.raises(ValueError) as refusal:
        merge_config(config)
    assert said in str(refusal.value)


def test_models_become_paths_and_nothing_else_does():
    config = {"base_model": "base", "models": [{"model": "sft/a+b@c", "parameters": {"w": {"filter": "base"}}}]}
    found = with_paths(config, {"base": Path("models/base"), "sft/a+b@c": Path("models/sft/a+b@c")})
    assert found["base_model"] == {"model": {"path": "models/base"}}
    assert found["models"][0] == {
        "model": {"model": {"path": "models/sft/a+b@c"}},
        "parameters": {"w": {"filter": "base"}},
    }
    assert list(named_models(config)) == ["base", "sft/a+b@c"]
