"""Parameter counts of released models, against the numbers that the hub shows for their safetensors files."""

import pytest

from ladder.pipeline.errors import UserError
from ladder.plan.adapters import adapter
from ladder.plan.published import MODELS, find, named
from ladder.plan.weights import by_part, parameters, weights


@pytest.mark.parametrize("name", MODELS)
def test_the_count_is_that_of_the_release(name):
    assert parameters(weights(MODELS[name].config)) == MODELS[name].parameters


@pytest.mark.parametrize(
    "name",
    ["meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b", "Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B"],
)
def test_a_name_with_or_without_its_variant(name):
    assert find(name) is MODELS["Llama-3.1-8B"]


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UserError, match=r"--model Qwen3-9B: .*did you mean 'Qwen3-8B'.*SmolLM2-135M"):
        named("Qwen3-9B")


def test_the_guides_83_9_million_are_rank_32():
    found = weights(MODELS["Llama-3.1-8B"].config)
    # a layer: r * (d_in + d_out) of q, k, v, o, gate, up, down
    layer = (4096 + 4096) * 2 + (4096 + 1024) * 2 + (4096 + 14336) * 3
    assert adapter(found, {"r": 16}).trainable == 16 * layer * 32 == 41_943_040
    assert adapter(found, {"r": 32}).trainable == 83_886_080


def test_parts_of_llama_8b():
    parts = by_part(weights(MODELS["Llama-3.1-8B"].config))
    assert parts == {
        "embedding": 128256 * 4096,
        "attention": 32 * 2 * (4096 * 4096 + 4096 * 1024),
        "mlp": 32 * 3 * 4096 * 14336,
        "norm": 65 * 4096,
        "head": 128256 * 4096,
    }
